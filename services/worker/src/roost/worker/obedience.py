"""What a worker does when a coordinator or a sidecar commands it. Every command is answered, whatever came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from google.rpc import code_pb2

from roost.cluster.errors import NoCapacity, RoostError
from roost.service.errors import to_refusal
from roost.service.logs import get_logger
from roost.service.operating.codec import command_from_wire
from roost.service.operating.commands import Action, Cancel, Command, Drain, LoadModel, UnloadModel, UnpinModel
from roost.service.operating.streams import MAX_COMMANDS
from roost.v1 import coordinator_pb2
from roost.worker.runtime import Runtime
from roost.worker.tasks import until

log: Final = get_logger()


class _CalledOff(Exception):
    """Whoever sent the command does not want it any more."""


class Obedience:
    """State: the commands under way, by id, and who of them is called off. `clock` is monotonic, in seconds."""

    def __init__(self, runtime: Runtime, *, clock: Callable[[], float]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._under_way = 0
        self._called_off: dict[str, asyncio.Event] = {}

    async def carry_out(self, command: coordinator_pb2.Command) -> coordinator_pb2.CommandResult:
        """The answer to it."""
        self._under_way += 1
        started = self._clock()
        result = coordinator_pb2.CommandResult(command_id=command.command_id)
        try:
            is_order = command.WhichOneof("action") != "cancel"  # what makes room is not refused for want of it
            if is_order and self._under_way > MAX_COMMANDS:
                raise NoCapacity(f"{MAX_COMMANDS} commands are under way", 1.0)
            unfinished = await self._unless_called_off(command_from_wire(command))
            if unfinished is not None:
                result.unfinished = unfinished
        except _CalledOff:
            result.code, result.message = code_pb2.CANCELLED, "it was called off by who sent it"
        except RoostError as error:
            refusal = to_refusal(error)
            result.code, result.message, result.reason = refusal.code, refusal.message, refusal.reason
        finally:
            self._under_way -= 1
        result.elapsed_s = self._clock() - started
        log.info("command_done", command=command.WhichOneof("action"), code=result.code, message=result.message)
        return result

    async def _unless_called_off(self, command: Command) -> int | None:
        """As `_do`. Raises _CalledOff, and what has gone wrong with the action."""
        called_off = self._called_off[command.command_id] = asyncio.Event()
        try:
            unfinished = await until(called_off, self._do(command.action))
        finally:
            del self._called_off[command.command_id]
        if called_off.is_set():
            if isinstance(command.action, LoadModel):
                self._runtime.call_off(command.action.model)
            raise _CalledOff
        return unfinished

    async def _do(self, action: Action) -> int | None:
        """After a drain, the requests still to finish."""
        match action:
            case LoadModel(model, is_pinned):
                await self._runtime.load(model, is_pinned=is_pinned)
            case UnloadModel(model, when_free):
                await self._runtime.unload(model, when_free=when_free)
            case UnpinModel(model):
                self._runtime.unpin(model)
            case Drain(is_resume, grace_s):
                return self._runtime.drain(resume=is_resume, grace_s=grace_s)
            case Cancel(command_id):
                if command_id in self._called_off:
                    self._called_off[command_id].set()
        return None
