"""Commands, their results, and operators' wishes, to and from the wire."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from roost.cluster.errors import InvalidField
from roost.cluster.names import check_model_name
from roost.placement.targets import LoadWish
from roost.service.operating.commands import Action, Cancel, Command, CommandResult, Drain, LoadModel, UnloadModel, UnpinModel
from roost.service.operating.operations import Outcome
from roost.v1 import coordinator_pb2, worker_pb2

MAX_GRACE_S: Final = 86_400.0  # a day
MAX_RESULT_TEXT: Final = 2_000  # characters of a worker's explanation that are passed on


def result_from_wire(result: coordinator_pb2.CommandResult) -> CommandResult:
    """Raises InvalidField."""
    if not math.isfinite(result.elapsed_s) or result.elapsed_s < 0:
        raise InvalidField("result.elapsed_s", "must be a finite number of seconds, 0 or more")
    return CommandResult(
        command_id=result.command_id,
        code=result.code,
        message=result.message[:MAX_RESULT_TEXT],
        reason=result.reason[:MAX_RESULT_TEXT],
        elapsed_s=result.elapsed_s,
        unfinished=result.unfinished if result.HasField("unfinished") else None,
    )


def result_to_wire(result: CommandResult) -> coordinator_pb2.CommandResult:
    return coordinator_pb2.CommandResult(
        command_id=result.command_id,
        code=result.code,
        message=result.message,
        reason=result.reason,
        elapsed_s=result.elapsed_s,
        unfinished=result.unfinished,
    )


def command_to_wire(command: Command) -> coordinator_pb2.Command:
    wire = coordinator_pb2.Command(command_id=command.command_id)
    action = command.action
    match action:
        case LoadModel(model, is_pinned):
            wire.load_model.CopyFrom(coordinator_pb2.LoadModelCommand(model=model, pin=is_pinned))
        case UnloadModel(model, when_free):
            wire.unload_model.CopyFrom(coordinator_pb2.UnloadModelCommand(model=model, when_free=when_free))
        case UnpinModel(model):
            wire.unpin_model.CopyFrom(coordinator_pb2.UnpinModelCommand(model=model))
        case Drain(is_resume, grace_s):
            wire.drain.CopyFrom(coordinator_pb2.DrainCommand(resume=is_resume, grace_s=grace_s))
        case Cancel(command_id):
            wire.cancel.CopyFrom(coordinator_pb2.CancelCommand(command_id=command_id))
    return wire


def command_from_wire(command: coordinator_pb2.Command) -> Command:
    """Raises InvalidField, also for an action that this version does not know."""
    return Command(command.command_id, _action_from_wire(command))


def _action_from_wire(command: coordinator_pb2.Command) -> Action:
    match command.WhichOneof("action"):
        case "load_model":
            return LoadModel(check_model_name(command.load_model.model), is_pinned=command.load_model.pin)
        case "unload_model":
            return UnloadModel(check_model_name(command.unload_model.model), when_free=command.unload_model.when_free)
        case "unpin_model":
            return UnpinModel(check_model_name(command.unpin_model.model))
        case "drain":
            return Drain(is_resume=command.drain.resume, grace_s=grace_from_wire(command.drain))
        case "cancel":
            return Cancel(command.cancel.command_id)
        case _:
            raise InvalidField("action", "is none that this version knows: load_model, unload_model, unpin_model, drain, cancel")


def grace_from_wire(
    drain: coordinator_pb2.DrainCommand | coordinator_pb2.DrainWorkerRequest | worker_pb2.DrainRequest,
) -> float | None:
    """What runs there has so long; None: no bound. Raises InvalidField."""
    if not drain.HasField("grace_s"):
        return None
    if not 0 <= drain.grace_s <= MAX_GRACE_S:
        raise InvalidField("grace_s", f"must be 0-{MAX_GRACE_S:g} seconds (got {drain.grace_s:g})")
    return drain.grace_s


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
