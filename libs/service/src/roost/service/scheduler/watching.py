"""Telling watchers that something changed.

State: who waits now, and how many watch. A watcher holds one answer at most: it is made when the last one was taken, so a slow reader
costs nothing but its own delay.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from roost.cluster.errors import NoCapacity

MAX_WATCHERS: Final = 1_000  # each is sent the whole state at every change; dashboards number in the tens


class Changes:
    """Wakes whoever waits for the next change."""

    def __init__(self, *, max_watchers: int = MAX_WATCHERS) -> None:
        self._max_watchers = max_watchers
        self._watchers = 0
        self._waiting = 0
        self._next = asyncio.Event()

    def announce(self) -> None:
        """Something changed. Costs nothing where nobody waits."""
        if self._waiting:
            self._next.set()
            self._next = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Returns when `holds` does; it is asked now and after each announcement."""
        while not holds():
            self._waiting += 1
            try:
                await self._next.wait()
            finally:
                self._waiting -= 1

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """A watcher's seat. Raises NoCapacity if all are taken."""
        if self._watchers >= self._max_watchers:
            raise NoCapacity(f"{self._max_watchers} watchers are served already", 5.0)
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    def __repr__(self) -> str:
        return f"<Changes {self._watchers} watchers, {self._waiting} waiting>"
