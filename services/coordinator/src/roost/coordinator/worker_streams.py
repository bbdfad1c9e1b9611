"""Which stream is a worker's current one.

State: worker name → its current stream. Invariant: a worker has at most one current stream, the one opened last.
"""

from __future__ import annotations

from roost.cluster.errors import RoostError, WorkerSuperseded, WorkerUnreachable
from roost.service.operating.commands import Action, CommandResult
from roost.service.operating.streams import CommandIds, WorkerStream


class WorkerStreams:
    """Reaches a worker by the stream that it holds to this process. `command_prefix` names this life of it."""

    def __init__(self, command_prefix: str) -> None:
        self._current: dict[str, WorkerStream] = {}
        self._ids = CommandIds(command_prefix)
        self._opened = 0

    def next_number(self) -> int:
        """The number of the stream that is about to be opened: its first report carries it into the view."""
        self._opened += 1
        return self._opened

    def open(self, worker_id: str, epoch: int, number: int) -> WorkerStream:
        """The worker's new current stream; the one it replaces is ended. Whether `epoch` may have it, the view has judged before."""
        current = self._current.get(worker_id)
        if current is not None:
            current.end(WorkerSuperseded(worker_id, current.epoch, epoch))
        stream = self._current[worker_id] = WorkerStream(worker_id, epoch, number, self._ids.next_id)
        return stream

    def close(self, stream: WorkerStream) -> bool:
        """Ends `stream`; false if it was no longer the worker's current one."""
        stream.end(WorkerUnreachable(stream.worker_id, "its stream was closed"))
        if self._current.get(stream.worker_id) is not stream:
            return False
        del self._current[stream.worker_id]
        return True

    def get(self, worker_id: str) -> WorkerStream:
        """Raises WorkerUnreachable if the worker holds no stream."""
        stream = self._current.get(worker_id)
        if stream is None:
            raise WorkerUnreachable(worker_id, "it holds no stream to this coordinator, so commands cannot be sent to it")
        return stream

    async def command(self, worker_id: str, action: Action, timeout_s: float) -> CommandResult:
        """What the worker answers. Raises NoCapacity, WorkerUnreachable."""
        return await self.get(worker_id).command(action, timeout_s)

    def end(self, worker_id: str, why: RoostError) -> None:
        """Ends the worker's stream, if it has one."""
        stream = self._current.get(worker_id)
        if stream is not None:
            stream.end(why)

    def __contains__(self, worker_id: object) -> bool:
        return worker_id in self._current

    def __len__(self) -> int:
        return len(self._current)

    def __repr__(self) -> str:
        return f"<WorkerStreams {len(self)} open>"
