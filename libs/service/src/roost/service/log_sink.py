"""Where log lines go: a bounded queue and one thread that writes it, so that no disk and no pipe can stop the process.

State: the lines not yet written. Invariants: `write` never blocks and never raises; a line that the file does not take goes to stderr;
a line that nothing takes, or that finds the queue full, is counted in `write_errors` and lost.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from pathlib import Path
from typing import Final

from roost.service.files import PRIVATE, open_file

MAX_WAITING_LINES: Final = 10_000  # some 2 MB; a disk or pipe that is this far behind is standing still
FLUSH_TIMEOUT_S: Final = 1.0  # what ending the process may wait for the last lines


class LogSink:
    """Appends to `path`, or writes to stderr where it is None. Raises OSError if the file cannot be opened."""

    def __init__(self, path: Path | None = None, *, stderr_fd: int | None = None) -> None:
        self._stderr_fd = sys.__stderr__.fileno() if stderr_fd is None and sys.__stderr__ is not None else stderr_fd or 2
        self._path = path
        self._fd = self._stderr_fd if path is None else open_file(path, os.O_WRONLY | os.O_APPEND, PRIVATE)
        self._lines: queue.Queue[str | threading.Event] = queue.Queue(MAX_WAITING_LINES)
        self._is_failing = False
        self._lost = 0
        self._failed_writes = 0
        self._writer = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._writer.start()

    @property
    def write_errors(self) -> int:
        """Lines that the place they were meant for did not take."""
        return self._failed_writes + self._lost

    def write(self, line: str) -> None:
        """Takes one line, without its line end."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """True when everything written so far has left, false if that took too long."""
        written = threading.Event()
        try:
            self._lines.put(written, timeout=timeout_s)
        except queue.Full:
            return False
        return written.wait(timeout_s)

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
            else:
                self._write_out(f"{line}\n".encode("utf-8", "backslashreplace"))

    def _write_out(self, line: bytes) -> None:
        try:
            _write_all(self._fd, line)
        except OSError as error:
            self._failed_writes += 1
            self._say_once(error)
            self._last_resort(line)
        else:
            if self._is_failing:
                self._is_failing = False
                self._last_resort(f"log_file: {self._path} takes lines again\n".encode())

    def _say_once(self, error: OSError) -> None:
        if not self._is_failing:
            self._is_failing = True
            self._last_resort(
                f"log_file: {self._path or 'stderr'} takes no lines: {error.strerror}; they go to stderr until it does\n".encode()
            )

    def _last_resort(self, line: bytes) -> None:
        if self._path is None:
            return
        try:
            _write_all(self._stderr_fd, line)
        except OSError:
            return  # nothing is left to say it to; the line is counted

    def __repr__(self) -> str:
        return f"<LogSink {self._path or 'stderr'}, {self._lines.qsize()} waiting, {self.write_errors} not taken>"


def _write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]
