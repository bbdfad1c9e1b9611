"""What is said again only after a while. Pure."""

from __future__ import annotations


class Seldom:
    """State: when each key was last allowed, oldest first; none older than `every_s` is kept once another is allowed."""

    def __init__(self, *, every_s: float) -> None:
        self._every_s = every_s
        self._allowed: dict[str, float] = {}

    def allows(self, key: str, now: float) -> bool:
        """True, unless it was for this key within the last `every_s`."""
        self._forget(now)
        if key in self._allowed:
            return False
        self._allowed[key] = now
        return True

    def _forget(self, now: float) -> None:
        while self._allowed:
            oldest = next(iter(self._allowed))
            if now - self._allowed[oldest] < self._every_s:
                return
            del self._allowed[oldest]

    def __len__(self) -> int:
        return len(self._allowed)
