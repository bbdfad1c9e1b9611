"""What a worker does when a coordinator or a sidecar commands it: load, unload, drain. Every command is answered, whatever came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from roost.cluster.errors import NoCapacity, RoostError
from roost.service.errors import to_refusal
from roost.service.logs import get_logger
from roost.service.operating.codec import command_from_wire
from roost.service.operating.commands import Action, LoadModel, UnloadModel
from roost.service.operating.streams import MAX_COMMANDS
from roost.v1 import coordinator_pb2
from roost.worker.runtime import Runtime

log: Final = get_logger()


class Obedience:
    """State: how many commands are under way. `clock` is monotonic, in seconds."""

    def __init__(self, runtime: Runtime, *, clock: Callable[[], float]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._under_way = 0

    async def carry_out(self, command: coordinator_pb2.Command) -> coordinator_pb2.CommandResult:
        """The answer to it."""
        self._under_way += 1
        started = self._clock()
        result = coordinator_pb2.CommandResult(command_id=command.command_id)
        try:
            if self._under_way > MAX_COMMANDS:
                raise NoCapacity(f"{MAX_COMMANDS} commands are under way", 1.0)
            unfinished = await self._do(command_from_wire(command).action)
            if unfinished is not None:
                result.unfinished = unfinished
        except RoostError as error:
            refusal = to_refusal(error)
            result.code, result.message, result.reason = refusal.code, refusal.message, refusal.reason
        finally:
            self._under_way -= 1
        result.elapsed_s = self._clock() - started
        log.info("command_done", command=command.WhichOneof("action"), code=result.code, message=result.message)
        return result

    async def _do(self, action: Action) -> int | None:
        """After a drain, the requests still to finish."""
        if isinstance(action, LoadModel):
            await self._runtime.load(action.model, is_pinned=action.is_pinned)
        elif isinstance(action, UnloadModel):
            await self._runtime.unload(action.model)
        else:
            return self._runtime.drain(resume=action.is_resume)
        return None
