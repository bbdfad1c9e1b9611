"""The models of a run and what a worker holds of them."""

from __future__ import annotations

from collections.abc import Sequence

from roost.cluster.catalogue import Catalogue, ModelSpec
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
