"""Decision records, to the wire."""

from __future__ import annotations

from roost.cluster.errors import InvalidField, RoostError
from roost.cluster.names import MAX_REQUEST_ID, check_request_id
from roost.placement.cost import Cost
from roost.placement.records import Considered, DecisionRecord
from roost.service.codec import CACHE_RESULTS, PHASES, decision_to_wire, request_to_wire
from roost.service.errors import to_refusal
from roost.service.scheduler.state_codec import passed_over_to_wire
from roost.v1 import scheduler_pb2, state_pb2


def explained_from_wire(wire: scheduler_pb2.ExplainDecisionRequest) -> str:
    """The request's name. Raises InvalidField."""
    if not wire.request_id:
        raise InvalidField("request_id", f"is empty; give the request's name, 1-{MAX_REQUEST_ID} characters")
    return check_request_id(wire.request_id)


def record_to_wire(record: DecisionRecord, plane: scheduler_pb2.Plane.ValueType, *, wall_offset_s: float) -> scheduler_pb2.DecisionRecord:
    """`wall_offset_s`: wall clock minus the clock of the record."""
    result = record.result
    is_refused = isinstance(result, RoostError)
    return scheduler_pb2.DecisionRecord(
        decided_at=record.decided_at + wall_offset_s,
        request=request_to_wire(record.request),
        response=None if isinstance(result, RoostError) else decision_to_wire(result, plane),
        refusal=to_refusal(result) if isinstance(result, RoostError) else None,
        considered=() if is_refused else [_considered(each, record) for each in record.considered],
        outcome=state_pb2.CACHE_RESULT_UNSPECIFIED if record.outcome is None else CACHE_RESULTS[record.outcome],
        settled_after_s=0.0 if record.outcome is None else record.settled_at - record.decided_at,
        passed_over=[passed_over_to_wire(each, record.decided_at) for each in record.passed_over],
    )


def _considered(each: Considered, record: DecisionRecord) -> scheduler_pb2.ConsideredWorker:
    state = each.entry.state
    status = state.models.get(record.request.model)
    return scheduler_pb2.ConsideredWorker(
        worker_id=state.node_id,
        phase=state_pb2.MODEL_PHASE_UNSPECIFIED if status is None else PHASES[status.phase],
        queue_depth=state.queue_depth,
        busy_slots=state.busy_slots,
        slots=state.slots,
        gpu_utilization=state.gpu_utilization,
        reserved=each.reserved,
        reserved_for_model=each.reserved_here,
        memory_used_bytes=state.memory_used_bytes,
        memory_capacity_bytes=state.memory_capacity_bytes,
        view_age_s=each.entry.age_s(record.decided_at),
        cost=None if each.cost is None else _cost(each.cost),
    )


def _cost(cost: Cost) -> scheduler_pb2.DecisionCost:
    return scheduler_pb2.DecisionCost(**cost._asdict())
