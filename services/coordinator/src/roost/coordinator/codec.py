"""The coordinator's own messages, to and from the wire. What both planes share is in `roost.service.codec`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from roost.cluster.errors import InvalidField
from roost.coordinator.commands import Command, CommandResult, Drain, LoadModel
from roost.coordinator.connections import Downward, Upward, Welcome
from roost.coordinator.operations import Outcome
from roost.coordinator.targets import LoadWish
from roost.service.codec import state_from_wire
from roost.v1 import coordinator_pb2

MAX_RESULT_TEXT: Final = 2_000  # characters of a worker's explanation that are passed on


def upward_from_wire(message: coordinator_pb2.ConnectRequest) -> Upward:
    """Raises InvalidField."""
    if message.HasField("report"):
        return state_from_wire(message.report)
    if message.HasField("result"):
        return _result_from_wire(message.result)
    raise InvalidField("message", "is empty; it must be a report or a result")


def _result_from_wire(result: coordinator_pb2.CommandResult) -> CommandResult:
    if not math.isfinite(result.elapsed_s) or result.elapsed_s < 0:
        raise InvalidField("result.elapsed_s", "must be a finite number of seconds, 0 or more")
    return CommandResult(
        command_id=result.command_id,
        code=result.code,
        message=result.message[:MAX_RESULT_TEXT],
        reason=result.reason[:MAX_RESULT_TEXT],
        elapsed_s=result.elapsed_s,
    )


def downward_to_wire(message: Downward) -> coordinator_pb2.ConnectResponse:
    if isinstance(message, Welcome):
        welcome = coordinator_pb2.Welcome(coordinator_epoch=message.coordinator_epoch, dead_after_s=message.dead_after_s)
        return coordinator_pb2.ConnectResponse(welcome=welcome)
    return coordinator_pb2.ConnectResponse(command=_command_to_wire(message))


def _command_to_wire(command: Command) -> coordinator_pb2.Command:
    wire = coordinator_pb2.Command(command_id=command.command_id)
    action = command.action
    if isinstance(action, LoadModel):
        wire.load_model.CopyFrom(coordinator_pb2.LoadModelCommand(model=action.model, pin=action.is_pinned))
    elif isinstance(action, Drain):
        wire.drain.CopyFrom(coordinator_pb2.DrainCommand(resume=action.is_resume))
    else:
        wire.unload_model.CopyFrom(coordinator_pb2.UnloadModelCommand(model=action.model))
    return wire


def wish_from_wire(request: coordinator_pb2.LoadModelRequest) -> LoadWish:
    """Raises InvalidField."""
    if request.replicas and request.worker_id:
        raise InvalidField("replicas", "cannot be given together with worker_id; leave one of them out")
    return LoadWish(request.model, request.replicas or 1, request.worker_id, is_pinned=request.pin)


def outcomes_to_wire(outcomes: Iterable[Outcome]) -> Sequence[coordinator_pb2.WorkerOutcome]:
    return [
        coordinator_pb2.WorkerOutcome(worker_id=outcome.worker_id, elapsed_s=outcome.elapsed_s, unchanged=outcome.is_unchanged)
        for outcome in outcomes
    ]
