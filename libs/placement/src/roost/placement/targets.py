"""Which workers a model should be loaded on: pure, from the view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roost.cluster.errors import InvalidField, ModelTooLarge, NoWorkers
from roost.cluster.names import check_model_name, check_worker_name
from roost.cluster.view import ClusterView, WorkerEntry, fits

MAX_REPLICAS = 1_000  # one command each, all at once


@dataclass(frozen=True, slots=True)
class LoadWish:
    """An operator's wish: `model` ready on `replicas` workers, or on `worker_id` if it is not empty. Raises InvalidField."""

    model: str
    replicas: int = 1
    worker_id: str = ""
    is_pinned: bool = False

    def __post_init__(self) -> None:
        check_model_name(self.model)
        if not 1 <= self.replicas <= MAX_REPLICAS:
            raise InvalidField("replicas", f"must be 1-{MAX_REPLICAS}, or 0 for 1 (got {self.replicas})")
        if self.worker_id:
            check_worker_name(self.worker_id, "worker_id")


@dataclass(frozen=True, slots=True)
class LoadTargets:
    """Workers that have the model as wished, and workers that are to load it. Both ordered by name."""

    unchanged: tuple[str, ...]
    to_load: tuple[str, ...]


def load_targets(view: ClusterView, wish: LoadWish, reserved: Callable[[str], int], can_reach: Callable[[str], bool]) -> LoadTargets:
    """Those that have it ready count first, then those that are loading it, then the least loaded ones that can load it.

    `reserved(worker)` is the number of decisions on their way there; `can_reach(worker)` says whether commands can be sent to it.
    Raises UnknownModel, UnknownWorker, ModelTooLarge, NoWorkers.
    """
    view.check_known(wish.model)
    if wish.worker_id:
        return _on_one(view.entry(wish.worker_id), wish)
    available = [entry for entry in view.entries.values() if entry.is_available]
    ready = [entry for entry in available if entry.state.has_ready(wish.model)]
    others = [entry for entry in available if not entry.state.has_ready(wish.model)]
    able = [entry for entry in others if can_reach(entry.node_id) and view.can_load(entry.node_id, wish.model)]
    if len(ready) + len(able) < wish.replicas:
        raise _too_few(view, wish, ready=len(ready), able=len(able), available=available)
    ready.sort(key=lambda entry: (not _is_as_wished(entry, wish), entry.node_id))
    able.sort(key=lambda entry: _effort(entry, wish.model, reserved(entry.node_id)))
    chosen = (ready + able)[: wish.replicas]
    unchanged = {entry.node_id for entry in chosen if _is_as_wished(entry, wish)}
    return LoadTargets(
        unchanged=tuple(sorted(unchanged)),
        to_load=tuple(sorted(entry.node_id for entry in chosen if entry.node_id not in unchanged)),
    )


def _on_one(entry: WorkerEntry, wish: LoadWish) -> LoadTargets:
    is_done = entry.is_available and _is_as_wished(entry, wish)
    return LoadTargets((entry.node_id,), ()) if is_done else LoadTargets((), (entry.node_id,))


def _is_as_wished(entry: WorkerEntry, wish: LoadWish) -> bool:
    status = entry.state.models.get(wish.model)
    return status is not None and status.is_ready and (status.is_pinned or not wish.is_pinned)


def _effort(entry: WorkerEntry, model: str, reserved: int) -> tuple[bool, float, int, str]:
    """Smallest first: already loading it, then requests a slot, then most free memory; the name keeps the order total."""
    state = entry.state
    requests = state.queue_depth + state.busy_slots + reserved
    free_bytes = state.memory_capacity_bytes - state.memory_used_bytes
    return (model not in state.models, requests / state.slots, -free_bytes, state.node_id)


def _too_few(view: ClusterView, wish: LoadWish, *, ready: int, able: int, available: list[WorkerEntry]) -> ModelTooLarge | NoWorkers:
    known = view.model(wish.model)
    capacities = [entry.state.memory_capacity_bytes for entry in available]
    if known is not None and capacities and not any(fits(known.size_bytes, capacity) for capacity in capacities):
        return ModelTooLarge(wish.model, known.size_bytes, max(capacities))
    return NoWorkers(
        f"{wish.model} is wanted on {wish.replicas} worker(s): {ready} of {len(available)} available worker(s) have it ready and "
        f"{able} more can load it"
    )
