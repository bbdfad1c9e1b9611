"""Why no worker can take a request: told apart, so that the caller knows whether to wait, to change something or to give up."""

from __future__ import annotations

from roost.cluster.errors import ModelTooLarge, NoWorkers
from roost.cluster.view import ClusterView, WorkerEntry, fits
from roost.cluster.worker_state import Liveness
from roost.placement.fleet import Fleet
from roost.placement.request import PlacementRequest


def refusal(view: ClusterView, fleet: Fleet, request: PlacementRequest) -> NoWorkers | ModelTooLarge:
    """ModelTooLarge if every worker that may load the model is too small for it, whatever else keeps it from work; else NoWorkers."""
    if not view.entries:
        return NoWorkers("no worker is known yet")
    excluded = {node_id for node_id in request.excluded if fleet.get(node_id) is not None}
    unable = [member.entry for group in fleet.groups() for member in group.members if member.node_id not in excluded]
    small = [entry for entry in unable if _size_there(view, entry, request.model) is not None]
    if small and not _could_be_loaded(view, request):
        largest = max(small, key=lambda entry: entry.state.memory_capacity_bytes)
        size_bytes = _size_there(view, largest, request.model) or 0
        return ModelTooLarge(request.model, size_bytes, largest.state.memory_capacity_bytes)
    counts = view.counts()
    causes = {
        "dead": counts[Liveness.DEAD],
        "suspect": counts[Liveness.SUSPECT],
        "draining": len(fleet.draining()),
        "excluded": len(excluded),
        f"with too little memory for {request.model}": len(small),
        f"without {request.model} in its catalogue": len(unable) - len(small),
    }
    known = len(view.entries)
    told = ", ".join(f"{count} {cause}" for cause, count in causes.items() if count)
    return NoWorkers(f"{known} worker{'s' if known != 1 else ''} known: {told}")


def _could_be_loaded(view: ClusterView, request: PlacementRequest) -> bool:
    """True if a worker that is suspect, dead, draining or excluded could take the model."""
    unavailable = (node_id for node_id, entry in view.entries.items() if not entry.is_available or node_id in request.excluded)
    return any(view.can_load(node_id, request.model) for node_id in unavailable)


def _size_there(view: ClusterView, entry: WorkerEntry, model: str) -> int | None:
    """What the model would take on this worker if it is too large for it; None if it is not, or not in its catalogue."""
    known = view.model(model) if entry.catalogue is None else entry.catalogue.models.get(model)
    if known is None or fits(known.size_bytes, entry.state.memory_capacity_bytes):
        return None
    return known.size_bytes
