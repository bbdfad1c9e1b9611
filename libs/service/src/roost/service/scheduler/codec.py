"""The scheduler's streams, to and from the wire. Requests, decisions and states are in `roost.service.codec`."""

from __future__ import annotations

from typing import Final

from roost.cluster.errors import InvalidField, RoostError
from roost.service.codec import request_from_wire, write_decision
from roost.service.errors import to_refusal
from roost.service.scheduler.desk import Answer, Question
from roost.v1 import scheduler_pb2

DEFAULT_WATCH_S: Final = 1.0
SHORTEST_WATCH_S: Final = 0.05
LONGEST_WATCH_S: Final = 60.0


def question_from_wire(message: scheduler_pb2.ScheduleStreamRequest) -> Question:
    """Raises nothing: what is wrong with the request becomes its answer."""
    wire = message.request
    try:
        request = request_from_wire(wire)
    except RoostError as refusal:
        return Question(wire.request_id[:256], refusal)
    return Question(request.request_id, request, wire.dry_run)


def answer_to_wire(answer: Answer, plane: scheduler_pb2.Plane.ValueType) -> scheduler_pb2.ScheduleStreamResponse:
    request_id, result = answer
    if isinstance(result, RoostError):
        return scheduler_pb2.ScheduleStreamResponse(request_id=request_id, refusal=to_refusal(result))
    wire = scheduler_pb2.ScheduleStreamResponse(request_id=request_id)
    write_decision(wire.response, result, plane)
    return wire


def watch_interval(interval_s: float) -> float:
    """Seconds between the answers of a watching call, 0 meaning 1. Raises InvalidField."""
    chosen_s = interval_s or DEFAULT_WATCH_S
    if not SHORTEST_WATCH_S <= chosen_s <= LONGEST_WATCH_S:
        raise InvalidField("interval_s", f"must be {SHORTEST_WATCH_S:g}-{LONGEST_WATCH_S:g} seconds, or 0 for 1 (got {interval_s:g})")
    return chosen_s
