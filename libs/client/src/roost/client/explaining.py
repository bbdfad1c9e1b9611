"""What a decider remembers of its decisions, as a client reads it."""

from __future__ import annotations

from dataclasses import dataclass

from roost.client.codec import decision_from_wire, passed_over_from_wire
from roost.client.results import Decision, PassedOverWorker
from roost.cluster.worker_state import CacheResult, Phase
from roost.placement.cost import Cost
from roost.v1 import scheduler_pb2, state_pb2

_PHASES = {state_pb2.MODEL_PHASE_LOADING: Phase.LOADING, state_pb2.MODEL_PHASE_READY: Phase.READY}
_OUTCOMES = {
    state_pb2.CACHE_RESULT_HIT: CacheResult.HIT,
    state_pb2.CACHE_RESULT_COLD_START: CacheResult.COLD_START,
    state_pb2.CACHE_RESULT_JOIN: CacheResult.JOIN,
    state_pb2.CACHE_RESULT_REFUSED: CacheResult.REFUSED,
}


@dataclass(frozen=True, slots=True)
class ConsideredWorker:
    """A worker as the decider saw it. `phase` of the model there, None: absent; `cost` is None where the policy weighs none."""

    worker_id: str
    phase: Phase | None
    queue_depth: int
    busy_slots: int
    slots: int
    gpu_utilization: float
    reserved: int
    reserved_for_model: int
    memory_used_bytes: int
    memory_capacity_bytes: int
    view_age_s: float
    cost: Cost | None


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """One decision, or one refusal (`decision` None, `refusal` its sentence). `considered` has the chosen worker first.

    `decided_at` is in seconds since the Unix epoch; `outcome` is None until the worker told, `settled_after_s` when that was.
    `passed_over` could have been chosen but for what had failed there.
    """

    decided_at: float
    request_id: str
    model: str
    priority: int
    deadline_s: float
    excluded: tuple[str, ...]
    decision: Decision | None
    refusal: str
    refusal_reason: str
    considered: tuple[ConsideredWorker, ...]
    outcome: CacheResult | None
    settled_after_s: float
    passed_over: tuple[PassedOverWorker, ...] = ()


def explained_from_wire(wire: scheduler_pb2.DecisionRecord) -> ExplainedDecision:
    return ExplainedDecision(
        decided_at=wire.decided_at,
        request_id=wire.request.request_id,
        model=wire.request.model_required,
        priority=wire.request.priority,
        deadline_s=wire.request.deadline_s,
        excluded=tuple(wire.request.excluded_workers),
        decision=decision_from_wire(wire.response) if wire.HasField("response") else None,
        refusal=wire.refusal.message,
        refusal_reason=wire.refusal.reason,
        considered=tuple(map(_considered, wire.considered)),
        outcome=_OUTCOMES.get(wire.outcome),
        settled_after_s=wire.settled_after_s,
        passed_over=tuple(map(passed_over_from_wire, wire.passed_over)),
    )


def _considered(wire: scheduler_pb2.ConsideredWorker) -> ConsideredWorker:
    cost = wire.cost
    return ConsideredWorker(
        worker_id=wire.worker_id,
        phase=_PHASES.get(wire.phase),
        queue_depth=wire.queue_depth,
        busy_slots=wire.busy_slots,
        slots=wire.slots,
        gpu_utilization=wire.gpu_utilization,
        reserved=wire.reserved,
        reserved_for_model=wire.reserved_for_model,
        memory_used_bytes=wire.memory_used_bytes,
        memory_capacity_bytes=wire.memory_capacity_bytes,
        view_age_s=wire.view_age_s,
        cost=Cost(cost.queue_s, cost.load_s, cost.memory_s, cost.eviction_s, cost.first_token_s, cost.crowding_s)
        if wire.HasField("cost")
        else None,
    )
