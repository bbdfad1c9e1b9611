"""The models of a run and what a worker holds of them."""

from __future__ import annotations

from collections.abc import Sequence

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.sim.machine import Build
from roost.worker.core.worker_core import Capacity
from roost.worker.engines.published import SimulatedSpeed
from roost.worker.engines.simulated import speed_of

MODEL_BYTES = 1_000_000_000  # of models of which only the number was given
MOST_PARALLEL = 1_024  # what a catalogue allows


def equal_models(count: int, slots: int, size_bytes: int = MODEL_BYTES) -> tuple[ModelSpec, ...]:
    """`count` models that differ in their names alone; as many requests of one run at once as there are slots."""
    if count < 1:
        raise ValueError(f"models must be 1 or more (got {count})")
    width = len(str(count - 1))
    parallel = min(slots, MOST_PARALLEL)
    return tuple(
        ModelSpec(f"model-{number:0{width}}", "simulated", "published", size_bytes=size_bytes, max_parallel=parallel)
        for number in range(count)
    )


def named_models(names: Sequence[str], slots: int, size_bytes: int = MODEL_BYTES) -> tuple[ModelSpec, ...]:
    """As `equal_models`, with these names."""
    parallel = min(slots, MOST_PARALLEL)
    return tuple(ModelSpec(name, "simulated", "published", size_bytes=size_bytes, max_parallel=parallel) for name in names)


def speeds_of(specs: Sequence[ModelSpec], time_scale: float) -> dict[str, SimulatedSpeed]:
    """How fast each is, by name; every entry is taken for a simulated one."""
    return {spec.name: speed_of(spec, time_scale) for spec in specs}


def catalogue_of(specs: Sequence[ModelSpec]) -> Catalogue:
    """Raises InvalidField."""
    return Catalogue(specs)


def build_of(  # noqa: PLR0913  # as the front door says it
    specs: Sequence[ModelSpec],
    *,
    slots: int,
    cache_models: int | None,
    memory_bytes: int | None,
    warm: bool | None,
    eviction: str,
    queue_capacity: int,
) -> Build:
    """What each worker is like. Raises ValueError where two of these contradict each other."""
    whole = sum(spec.size_bytes for spec in specs)
    if cache_models is not None and memory_bytes is not None:
        raise ValueError("give either cache_models or memory_bytes")
    if cache_models is not None:
        if len({spec.size_bytes for spec in specs}) > 1:
            raise ValueError("cache_models counts models of equal size; give memory_bytes instead")
        if cache_models < 1:
            raise ValueError(f"cache_models must be 1 or more (got {cache_models})")
        memory_bytes = cache_models * specs[0].size_bytes
    if memory_bytes is not None and memory_bytes <= 0:
        raise ValueError(f"memory_bytes must be more than 0 (got {memory_bytes})")
    memory = whole if memory_bytes is None else memory_bytes
    is_warm = memory >= whole if warm is None else warm
    if is_warm and memory < whole:
        raise ValueError("warm workers need memory for every model")
    capacity = Capacity(memory, slots, queue_capacity, eviction=eviction)
    return Build(capacity, tuple(spec.name for spec in specs) if is_warm else ())
