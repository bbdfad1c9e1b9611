"""Writes what happens to a decider into a file, in a thread of its own, so that no disk can hold up a decision.

State: events not yet written, the file under way and its size. Invariants: events are written in their order, each once, until the first
that cannot be: then nothing more is, and the log says so once; at most MAX_WAITING events wait; the file and its predecessor
(FILE.1) are each as large as was allowed, or as the beginning of a file takes twice, and by what waited while the file was full.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from json import dumps
from pathlib import Path
from typing import Final

from roost.cluster.errors import RoostError
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Effect
from roost.placement.facts import Fact
from roost.placement.recording.events import Beginning, Event
from roost.placement.recording.journal import Journal
from roost.placement.recording.writing import MARK, Writer
from roost.placement.request import PlacementRequest
from roost.service.files import PRIVATE, open_file
from roost.service.logs import Logger
from roost.service.scheduler.taps import Tap
from roost.service.startup import CannotStart

DEFAULT_BYTES: Final = 100_000_000
LEAST_BYTES: Final = 100_000
MAX_WAITING: Final = 50_000  # events; seconds of a busy decider's, and some 50 MB where each report holds much
EVERY_S: Final = 0.05  # what a killed process has not written yet
# Events encoded in a row, and the rest after them: the event loop waits while Python code of this thread runs, and a thread that does not
# rest takes the interpreter's lock again before another that waits for it has woken up. Far behind, nobody rests.
BATCH: Final = 8
REST_S: Final = 0.0005
HURRIES_AT: Final = 5_000
CLOSE_TIMEOUT_S: Final = 5.0
_BEGINS: Final = f'{{"{MARK}"'.encode()


class Recorder:
    """`changed(is_on, bytes written)` is told, in the recorder's thread, of each change. Raises CannotStart if the file cannot be had."""

    def __init__(
        self, path: Path, max_bytes: int, *, changed: Callable[[bool, int], None], log: Logger, max_waiting: int = MAX_WAITING
    ) -> None:
        self._path = path
        self._before = path.with_name(f"{path.name}.1")
        self._max_bytes = max_bytes
        self._max_waiting = max_waiting
        self._changed = changed
        self._log = log
        self._writer = Writer()
        self._waiting: deque[Beginning | Event] = deque()
        self._why = ""  # it has stopped
        self._is_due = False  # the file is full
        self._bytes = self._limit = 0
        self._is_closing = threading.Event()
        self._fd = self._open()
        self._thread = threading.Thread(target=self._run, name="decision-recorder", daemon=True)
        self._thread.start()

    # --- in the event loop's thread -----------------------------------------------------------------

    def take(self, event: Beginning | Event) -> bool:
        """True if it is to begin anew now, because the file is full."""
        if self._why:
            return False
        if len(self._waiting) >= self._max_waiting:
            self._why = f"{self._max_waiting} events waited to be written"
            return False
        self._waiting.append(event)
        if self._is_due and not isinstance(event, Beginning):
            self._is_due = False
            return True
        return False

    @property
    def has_stopped(self) -> bool:
        """Whether nothing is taken any more."""
        return bool(self._why)

    def close(self) -> None:
        """Writes what waits, if the disk takes it in time."""
        self._is_closing.set()
        self._thread.join(CLOSE_TIMEOUT_S)

    # --- in its own ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._why and not self._is_closing.wait(EVERY_S):
                self._write_waiting()
            self._write_waiting()  # all that was taken before it ended
            if not self._why:
                self._write(_end(""))
        except OSError as error:
            self._why = f"{self._path}: {error.strerror or error}"
        finally:  # whatever ended it, by a bug too: nothing is taken any more
            is_stopped, self._why = bool(self._why) or not self._is_closing.is_set(), self._why or "it has ended"
            if is_stopped:
                self._stop()
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._changed(False, 0)

    def _write_waiting(self) -> None:
        waiting = self._waiting
        while waiting:
            lines: list[str] = []
            while waiting and len(lines) < BATCH:
                event = waiting.popleft()
                if isinstance(event, Beginning):
                    self._write("".join(lines))
                    lines.clear()
                    self._begin(event)
                else:
                    lines.append(self._writer.line(event))
            self._write("".join(lines))
            if len(waiting) < HURRIES_AT and not self._is_closing.is_set():
                time.sleep(REST_S)

    def _begin(self, beginning: Beginning) -> None:
        if self._bytes:
            os.close(self._fd)
            self._path.replace(self._before)
            self._fd = open_file(self._path, os.O_WRONLY | os.O_EXCL, PRIVATE)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._log.info("recording_rotated", file=str(self._path), bytes=self._bytes)
        self._bytes = 0
        text = self._writer.first_lines(beginning)
        self._limit = max(self._max_bytes, 2 * len(text))
        self._write(text)

    def _write(self, text: str) -> None:
        """Raises OSError."""
        data = memoryview(text.encode())
        self._changed(True, len(data))
        was_full = self._bytes >= self._limit
        self._bytes += len(data)
        while data:
            data = data[os.write(self._fd, data) :]
        if self._bytes >= self._limit and not was_full:
            self._is_due = True

    def _stop(self) -> None:
        self._waiting.clear()
        with contextlib.suppress(OSError):
            os.write(self._fd, _end(f"recording stopped: {self._why}").encode())
        self._log.error("recording_stopped", why=self._why, fix="make room, or record to another file, and start anew; serving goes on")

    def _open(self) -> int:
        """An empty file. A recording that is there already becomes the one before; anything else is left alone."""
        try:
            for path in (self._path, self._before):
                _check_ours(path)
            if self._path.exists() and self._path.stat().st_size:
                self._path.replace(self._before)
            fd = open_file(self._path, os.O_WRONLY, PRIVATE)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotStart(f"record (--record): {self._path} cannot be written: {error.strerror or error}") from error
        return fd

    def __repr__(self) -> str:
        return f"<Recorder {self._path} {self._bytes}/{self._limit} bytes, {len(self._waiting)} waiting{', stopped' if self._why else ''}>"


def _check_ours(path: Path) -> None:
    """Raises CannotStart if something else is there, or another process writes to it; OSError."""
    if not path.exists():
        return
    with path.open("rb") as file:
        if file.read(len(_BEGINS)) not in (b"", _BEGINS):
            raise CannotStart(f"record (--record): {path} is there already and is no recording; name another file")
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"record (--record): another process records to {path}; each needs a file of its own") from None


def _end(why: str) -> str:
    return dumps({"op": "end", "why": why}) + "\n"


def fresh_chance() -> tuple[int, random.Random]:
    seed = secrets.randbits(64)
    return seed, random.Random(seed)  # noqa: S311  # spreads load; guards nothing


class RecordingTap(Tap):
    """Hands everything to a journal, once there is one."""

    def __init__(self, recorder: Recorder, *, plane: str, wall_offset_s: float) -> None:
        """`wall_offset_s`: wall clock minus the decider's clock."""
        self._recorder = recorder
        self._plane = plane
        self._wall_offset_s = wall_offset_s
        self._journal: Journal | None = None

    def begin(self, decider: Decider) -> None:
        """From now on everything is written down."""
        self._journal = Journal(decider, self._recorder.take, fresh_chance, plane=self._plane, wall_offset_s=self._wall_offset_s)

    def heard(self, fact: Fact, now: float, effects: Sequence[Effect]) -> None:
        if self._journal is not None:
            self._journal.heard(fact, now, effects)

    def asked(self, request: PlacementRequest, now: float, answer: Decision | Ticket | RoostError, elapsed_s: float) -> None:
        del elapsed_s
        if self._journal is not None:
            self._journal.asked(request, now, answer)

    def previewed(self, request: PlacementRequest, now: float, answer: Decision | RoostError) -> None:
        if self._journal is not None:
            self._journal.previewed(request, now, answer)

    def gave_up(self, ticket: Ticket, now: float) -> None:
        if self._journal is not None:
            self._journal.gave_up(ticket, now)

    def rang(self, now: float, effects: Sequence[Effect]) -> None:
        if self._journal is not None:
            self._journal.rang(now, effects)


@contextlib.contextmanager
def recording(
    path: Path | None, max_bytes: int, *, plane: str, wall_offset_s: float, changed: Callable[[bool, int], None], log: Logger
) -> Iterator[RecordingTap | None]:
    """What a decider is to be recorded with while the block runs; None without a path. Raises CannotStart."""
    if path is None:
        yield None
        return
    recorder = Recorder(path, max_bytes, changed=changed, log=log)
    try:
        yield RecordingTap(recorder, plane=plane, wall_offset_s=wall_offset_s)
    finally:
        recorder.close()
