"""At most one run of a generation at a time: which attempt of each is the last that came. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from roost.cluster.errors import StaleAttempt

REMEMBERED_S: Final = 60.0  # a call that was under way when its generation ended arrives within this, or its connection has died
MAX_REMEMBERED: Final = 10_000  # ended ones; a worker of the fastest models ends some hundred a second

Run = TypeVar("Run")


@dataclass(slots=True)
class _Generation(Generic[Run]):
    attempt: int
    run: Run | None


class Fence(Generic[Run]):
    """State: the last attempt of each generation that runs or has ended lately, and its run while it runs.

    Invariants: of one generation at most one run is in; an attempt that is not above the last one never gets in while that is
    remembered, which it is for 60 s after its end, or until 10,000 others have ended. Times are any monotonic clock's seconds.
    """

    def __init__(self) -> None:
        self._generations: dict[bytes, _Generation[Run]] = {}
        self._ended: deque[tuple[float, bytes, int]] = deque()

    def enter(self, generation_id: bytes, attempt: int, run: Run, now: float) -> Run | None:
        """The run is in; what is returned is an older run that must end before it begins. Raises StaleAttempt."""
        self._forget(now)
        known = self._generations.get(generation_id)
        if known is not None and attempt <= known.attempt:
            raise StaleAttempt(attempt, known.attempt)
        self._generations[generation_id] = _Generation(attempt, run)
        return None if known is None else known.run

    def leave(self, generation_id: bytes, run: Run, now: float) -> None:
        """The run has ended. One that another has replaced has left already."""
        known = self._generations.get(generation_id)
        if known is None or known.run is not run:
            return
        known.run = None
        self._ended.append((now, generation_id, known.attempt))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._ended and (len(self._ended) > MAX_REMEMBERED or self._ended[0][0] < now - REMEMBERED_S):
            _, generation_id, attempt = self._ended.popleft()
            known = self._generations.get(generation_id)
            if known is not None and known.run is None and known.attempt == attempt:
                del self._generations[generation_id]

    def __len__(self) -> int:
        return len(self._generations)

    def __repr__(self) -> str:
        return f"<Fence {len(self._generations) - len(self._ended)} run, {len(self._ended)} ended lately>"
