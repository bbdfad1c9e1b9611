"""The scheduler's streams, to and from the wire. Requests, decisions and states are in `roost.service.codec`."""

from __future__ import annotations

from typing import Final

from roost.cluster.errors import InvalidField, RoostError
from roost.cluster.names import check_request_id
from roost.service.codec import decision_to_wire, request_from_wire
from roost.service.errors import to_refusal
from roost.service.scheduler.scheduling import Answered, Asked
from roost.v1 import scheduler_pb2

DEFAULT_WATCH_S: Final = 1.0
SHORTEST_WATCH_S: Final = 0.05
LONGEST_WATCH_S: Final = 60.0


def asked_from_wire(message: scheduler_pb2.ScheduleStreamRequest) -> Asked:
    """Raises nothing: what is wrong with the request becomes its answer."""
    request_id = message.request.request_id
    try:
        return Asked(check_request_id(request_id), request_from_wire(message.request))
    except RoostError as refusal:
        return Asked(request_id[:256], refusal)


def answered_to_wire(answer: Answered, plane: scheduler_pb2.Plane.ValueType) -> scheduler_pb2.ScheduleStreamResponse:
    if isinstance(answer.result, RoostError):
        return scheduler_pb2.ScheduleStreamResponse(request_id=answer.request_id, refusal=to_refusal(answer.result))
    return scheduler_pb2.ScheduleStreamResponse(request_id=answer.request_id, response=decision_to_wire(answer.result, plane))


def watch_interval(interval_s: float) -> float:
    """Seconds between the answers of a watching call, 0 meaning 1. Raises InvalidField."""
    chosen_s = interval_s or DEFAULT_WATCH_S
    if not SHORTEST_WATCH_S <= chosen_s <= LONGEST_WATCH_S:
        raise InvalidField("interval_s", f"must be {SHORTEST_WATCH_S:g}-{LONGEST_WATCH_S:g} seconds, or 0 for 1 (got {interval_s:g})")
    return chosen_s
