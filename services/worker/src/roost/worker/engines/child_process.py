"""The worker's end of one child process: frames in and out, the last words of its stderr, and its death. No tasks, only callbacks."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from roost.worker.engines.frames import BadFrame, FrameReader, Message, encode

STDERR_LINES: Final = 12
STDERR_LINE_CHARACTERS: Final = 300
_COMPLAINT: Final = re.compile(r"error|fail|abort|assert|terminate|what\(\)", re.IGNORECASE)
EXIT_TIMEOUT_S: Final = 10.0  # a killed process is gone in milliseconds unless the machine stands still


class ChildProcess(asyncio.SubprocessProtocol):
    """Owns one process. `receive` gets each message; `died` gets a sentence, once, when the process is gone."""

    def __init__(self, receive: Callable[[Message], None], died: Callable[[str], None]) -> None:
        self._receive = receive
        self._died = died
        self._reader = FrameReader()
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._transport: asyncio.SubprocessTransport | None = None
        self._gone = asyncio.get_running_loop().create_future()

    @classmethod
    async def spawn(
        cls, command: Sequence[str], receive: Callable[[Message], None], died: Callable[[str], None], *, environment: Mapping[str, str]
    ) -> ChildProcess:
        """Starts `command` in a session of its own, so that a Ctrl-C in the terminal is the worker's to handle. Raises OSError."""
        loop = asyncio.get_running_loop()
        _, child = await loop.subprocess_exec(
            lambda: cls(receive, died), *command, env={**os.environ, **environment}, start_new_session=True
        )
        return child

    @property
    def pid(self) -> int:
        return self._transport.get_pid() if self._transport else 0

    def send(self, message: Message) -> None:
        """Queues one message; a dead child gets none."""
        if self._transport is None or self._gone.done():
            return
        stdin = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))
        if stdin is not None and not stdin.is_closing():
            stdin.write(encode(message))

    async def kill(self) -> None:
        """Ends the process and waits until it is gone. Idempotent."""
        if self._transport is None:
            return
        if self._transport.get_returncode() is None:
            self._transport.kill()
        async with asyncio.timeout(EXIT_TIMEOUT_S):
            await asyncio.shield(self._gone)
        self._transport.close()

    def processor_ticks(self) -> int | None:
        """Processor time that it has used, in the system's ticks (10 ms). None where the system does not tell (it is no Linux)."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])  # utime and stime, proc(5) fields 14 and 15
        except (OSError, ValueError, IndexError):
            return None

    def last_words(self) -> str:
        """What its stderr ended with, on one line: the lines that complain, else the last two. Empty if it said nothing."""
        lines = [line for line in self._stderr if line]
        complaints = [line for line in lines if _COMPLAINT.search(line)]
        return "; ".join(complaints[-3:] or lines[-2:])

    # --- called by the event loop ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            lines = data.decode("utf-8", "replace").splitlines()
            self._stderr.extend(line.strip()[:STDERR_LINE_CHARACTERS] for line in lines)
            return
        try:
            for message in self._reader.feed(data):
                self._receive(message)
        except BadFrame as error:
            self._stderr.append(f"sent {error}")
            if self._transport is not None and self._transport.get_returncode() is None:
                self._transport.kill()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the signature is asyncio's
        """The process has exited and its pipes are drained."""
        if self._gone.done():
            return
        self._gone.set_result(None)
        code = self._transport.get_returncode() if self._transport else None
        words = self.last_words()
        self._died(f"its process {_ended(code)}{f': {words}' if words else ''}")


def _ended(code: int | None) -> str:
    if code is None:
        return "ended"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
