"""Why no worker can take a request: told apart, so that the caller knows whether to wait, to change something or to give up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from roost.cluster.errors import ModelTooLarge, NoWorkers
from roost.cluster.view import ClusterView, WorkerEntry, fits
from roost.cluster.worker_state import Liveness
from roost.placement.failures import PassedOver, soonest_s
from roost.placement.fleet import Fleet
from roost.placement.request import PlacementRequest

SOONEST_RETRY_S: Final = 0.1  # for a caller whose worker is being tried with somebody else's request


def refusal(
    view: ClusterView, fleet: Fleet, request: PlacementRequest, passed_over: Sequence[PassedOver], now: float
) -> NoWorkers | ModelTooLarge:
    """ModelTooLarge if every worker that may load the model is too small for it, whatever else keeps it from work; else NoWorkers.

    `passed_over` could take it but for what has failed there: then a retry makes sense when the first of them may be tried again.
    """
    if not view.entries:
        return NoWorkers("no worker is known yet")
    excluded = {node_id for node_id in request.excluded if fleet.get(node_id) is not None}
    failing = {each.node_id for each in passed_over}
    left = [member.entry for group in fleet.groups() for member in group.members if member.node_id not in excluded]
    unable = [entry for entry in left if entry.node_id not in failing]
    sizes = [(entry, _size_there(view, entry, request.model)) for entry in unable]
    small = [(entry, size) for entry, size in sizes if size and not fits(size, entry.state.memory_capacity_bytes)]
    pinned = [entry for entry, size in sizes if size is not None and fits(size, entry.state.memory_capacity_bytes)]
    if small and not pinned and not failing and not _could_be_loaded(view, request):
        largest, size_bytes = max(small, key=lambda pair: pair[0].state.memory_capacity_bytes)
        return ModelTooLarge(request.model, size_bytes, largest.state.memory_capacity_bytes)
    counts = view.counts()
    causes = {
        "dead": counts[Liveness.DEAD],
        "suspect": counts[Liveness.SUSPECT],
        "draining": len(fleet.draining()),
        "excluded": len(excluded),
        f"passed over because {request.model} fails there": len(failing),
        f"with too little memory for {request.model}": len(small),
        f"with too much memory pinned to load {request.model}": len(pinned),
        f"without {request.model} in its catalogue": len(unable) - len(small) - len(pinned),
    }
    known = len(view.entries)
    told = ", ".join(f"{count} {cause}" for cause, count in causes.items() if count)
    why = f"{known} worker{'s' if known != 1 else ''} known: {told}"
    if not passed_over:
        return NoWorkers(why)
    soonest = min(passed_over, key=lambda each: each.until)
    wait_s = soonest_s((soonest,), now)
    when = f"is tried again in {wait_s:.1f} s" if wait_s else "is being tried now"
    return NoWorkers(f"{why}; {soonest.node_id} {when}: {soonest.why}", max(SOONEST_RETRY_S, wait_s))


def _could_be_loaded(view: ClusterView, request: PlacementRequest) -> bool:
    """True if a worker that is suspect, dead, draining or excluded could take the model, were nothing else pinned there."""
    for node_id, entry in view.entries.items():
        if not entry.is_available or node_id in request.excluded:
            size = _size_there(view, entry, request.model)
            if request.model in entry.state.models or (size is not None and fits(size, entry.state.memory_capacity_bytes)):
                return True
    return False


def _size_there(view: ClusterView, entry: WorkerEntry, model: str) -> int | None:
    """What the model would take on this worker, 0 if nobody knows; None if its catalogue has it not."""
    known = view.model(model) if entry.catalogue is None else entry.catalogue.models.get(model)
    return None if known is None else known.size_bytes
