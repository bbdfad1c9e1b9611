"""The commands under way on one worker's stream, whichever plane the stream belongs to.

State: the commands not yet sent and those not yet answered. Invariants: every command is answered exactly once: by its result, by its
deadline, or by the end of its stream; a stream has at most MAX_COMMANDS under way. What its sender gave up is called off at the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from roost.cluster.errors import InvalidField, NoCapacity, RoostError, WorkerUnreachable
from roost.cluster.worker_state import WorkerState
from roost.service.operating.commands import Action, Cancel, Command, CommandResult, UnloadModel

MAX_COMMANDS: Final = 64  # a worker runs one load at a time; more waiting ones than this are a caller's loop


class CommandIds:
    """State: how many were issued. The ids are unique in the life of the process whose `prefix` names its epoch."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._issued = 0

    def next_id(self) -> str:
        self._issued += 1
        return f"{self._prefix}-{self._issued}"


class WorkerStream:
    """One stream of one life of a worker; `number` grows with each stream. Must be made where an event loop runs."""

    def __init__(self, worker_id: str, epoch: int, number: int, next_id: Callable[[], str]) -> None:
        self.worker_id = worker_id
        self.epoch = epoch
        self.number = number
        self._next_id = next_id
        self._outbox: asyncio.Queue[Command] = asyncio.Queue(maxsize=2 * MAX_COMMANDS)  # half for what calls others off
        self._pending: dict[str, asyncio.Future[CommandResult]] = {}
        self._unheard: set[str] = set()  # commands in the outbox whose result nobody waits for
        self._ended: asyncio.Future[RoostError] = asyncio.get_running_loop().create_future()

    def check(self, state: WorkerState) -> None:
        """Raises InvalidField if a further report is of another worker or life, and the reason of the stream's end if it has ended."""
        if self._ended.done():
            raise self._ended.result()
        if state.node_id != self.worker_id:
            raise InvalidField("node_id", f"may not change on a stream (was {self.worker_id}, is {state.node_id})")
        if state.epoch != self.epoch:
            raise InvalidField("epoch", f"may not change on a stream (was {self.epoch}, is {state.epoch})")

    async def command(self, action: Action, timeout_s: float) -> CommandResult:
        """Sends `action` and waits for its result, whatever it says. Who stops waiting calls it off; a load that takes too long goes on.

        Raises NoCapacity (too many under way), WorkerUnreachable (no answer in time, or the stream ended).
        """
        if self._ended.done():
            raise WorkerUnreachable(self.worker_id, "its stream has ended")
        if len(self._pending) >= MAX_COMMANDS or self._outbox.qsize() >= MAX_COMMANDS:
            raise NoCapacity(f"{self.worker_id} has {MAX_COMMANDS} commands under way", 1.0)
        command = Command(self._next_id(), action)
        answer: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()
        self._pending[command.command_id] = answer
        self._outbox.put_nowait(command)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except asyncio.CancelledError:
            self._call_off(command)
            raise
        except TimeoutError:
            if isinstance(action, UnloadModel):  # nobody expects a model to be put out later
                self._call_off(command)
            raise WorkerUnreachable(self.worker_id, f"it did not answer {action.kind} within {timeout_s:.3g} s") from None
        finally:
            del self._pending[command.command_id]

    def _call_off(self, command: Command) -> None:
        if not self._ended.done() and not self._outbox.full():
            cancel = Command(self._next_id(), Cancel(command.command_id))
            self._unheard.add(cancel.command_id)
            self._outbox.put_nowait(cancel)

    def tell(self, action: Action) -> bool:
        """Sends `action` without waiting for its result. False if too many are under way, or the stream has ended."""
        if self._ended.done() or len(self._pending) >= MAX_COMMANDS or self._outbox.qsize() >= MAX_COMMANDS:
            return False
        command = Command(self._next_id(), action)
        self._unheard.add(command.command_id)
        self._outbox.put_nowait(command)
        return True

    async def next_command(self) -> Command:
        """The next command to send; those that nobody waits for any more are skipped."""
        while True:
            command = await self._outbox.get()
            if command.command_id in self._pending:
                return command
            if command.command_id in self._unheard:
                self._unheard.remove(command.command_id)
                return command

    def resolve(self, result: CommandResult) -> bool:
        """False if nobody waits for this result (any more)."""
        answer = self._pending.get(result.command_id)
        if answer is None or answer.done():
            return False
        answer.set_result(result)
        return True

    def end(self, why: RoostError) -> None:
        """Fails what is under way and makes `refuse_when_ended` raise `why`. Idempotent: the first reason stays."""
        if self._ended.done():
            return
        self._ended.set_result(why)
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(WorkerUnreachable(self.worker_id, "its stream ended before it answered"))

    async def refuse_when_ended(self) -> None:
        """Waits for `end` and raises its reason."""
        raise await asyncio.shield(self._ended)

    def __repr__(self) -> str:
        ended = " ended" if self._ended.done() else ""
        return f"<WorkerStream {self.worker_id} e{self.epoch} {len(self._pending)} under way{ended}>"
