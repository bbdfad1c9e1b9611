"""Why a decision is as it is, in one sentence for an operator."""

from __future__ import annotations

from roost.placement.candidate import Candidate
from roost.placement.estimate import Estimate
from roost.placement.fleet import Fleet
from roost.placement.request import PlacementRequest


def reason(fleet: Fleet, request: PlacementRequest, chosen: Candidate, because: str, estimate: Estimate) -> str:
    """`because` is the policy's word, as it reads after the worker's name."""
    if estimate.load_s is None:
        if not estimate.wait_s:
            return f"{chosen.node_id} has {request.model} ready, none ahead in queue"
        return f"{chosen.node_id} has {request.model} ready, {_turn(request, chosen, estimate)}"
    others = _others(fleet, request)
    queue = f", {estimate.ahead} ahead in queue" if estimate.ahead else ""
    if estimate.is_loading:
        return f"{others}; {chosen.node_id} {because} and is loading it, ready in about {estimate.load_s:.1f} s{queue}"
    return f"{others}; {chosen.node_id} {because} and will load it in about {estimate.load_s:.1f} s{queue}"


def _turn(request: PlacementRequest, chosen: Candidate, estimate: Estimate) -> str:
    if estimate.ahead:
        return f"{estimate.ahead} ahead in queue"
    slots, at_once = chosen.state.slots, chosen.state.models[request.model].max_parallel
    taken = min(slots, chosen.state.busy_slots + chosen.reserved.count)
    if taken < slots and at_once:
        return f"next in queue, {request.model} runs {at_once} at a time"
    return f"next in queue, {taken} of {slots} slots busy"


def _others(fleet: Fleet, request: PlacementRequest) -> str:
    """Where the model is ready, seeing that the chosen worker has it not."""
    holders = fleet.ready_on(request.model)
    excluded = sum(node_id in holders for node_id in request.excluded)
    elsewhere = len(holders) - excluded
    if elsewhere == 1:
        return f"1 other worker has {request.model} ready"
    if elsewhere:
        return f"{elsewhere} other workers have {request.model} ready"
    if excluded:
        return f"only excluded workers have {request.model} ready"
    if any(entry.state.has_ready(request.model) for entry in fleet.draining().values()):
        return f"only draining workers have {request.model} ready"
    return f"no live worker has {request.model}"
