"""How much this node trusts itself: Lifeguard's local health multiplier (section IV-A).

Invariant: 0 <= score <= maximum. 0 is healthy; the probe interval and timeout are multiplied by score + 1.
"""

from __future__ import annotations


class LocalHealth:
    """A saturating counter of the signs that we, not the others, are slow."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._score = 0

    @property
    def score(self) -> int:
        return self._score

    def probe_succeeded(self) -> None:
        self._move(-1)

    def probe_failed(self, expected_nacks: int, nacks: int) -> None:
        """Helpers that did not even say "no answer" suggest that we do not hear; without helpers any failure does."""
        self._move(max(0, expected_nacks - nacks) if expected_nacks > 0 else 1)

    def refuted(self) -> None:
        """Somebody had to suspect us."""
        self._move(1)

    def was_late(self) -> None:
        """Our own timers fired late."""
        self._move(1)

    def scale(self, seconds: float) -> float:
        return seconds * (self._score + 1)

    def _move(self, by: int) -> None:
        self._score = min(self._maximum, max(0, self._score + by))

    def __repr__(self) -> str:
        return f"<LocalHealth {self._score}/{self._maximum}>"
