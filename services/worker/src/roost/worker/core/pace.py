"""When the next report is due, and when the next attempt to connect is. Pure."""

from __future__ import annotations

from roost.placement.rng import Rng

SMALLEST_GAP_S = 0.05  # changes are coalesced to at most 20 reports a second
FIRST_BACKOFF_S = 0.05
YOUNG_ATTEMPTS = 24  # about the first ten seconds: most outages are restarts, and over by then
YOUNG_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 2.0


class ReportPace:
    """State: when the last report was sent, and whether anything has changed since. Times are any monotonic clock's seconds."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._sent_at: float | None = None
        self._has_changed = False

    def changed(self) -> bool:
        """Something worth a report has changed. True if that makes the next report due earlier."""
        was_known, self._has_changed = self._has_changed, True
        return not was_known

    def sent(self, now: float) -> None:
        self._sent_at = now
        self._has_changed = False

    def due_in(self, now: float) -> float:
        """Seconds until the next report; 0.0: now."""
        if self._sent_at is None:
            return 0.0
        gap_s = min(SMALLEST_GAP_S, self._interval_s) if self._has_changed else self._interval_s
        return max(0.0, self._sent_at + gap_s - now)


class Backoff:
    """State: how many attempts have failed in a row.

    Waits double from 50 ms to 0.5 s, and from the 25th on to 2 s; each is between half of that and all of it.
    """

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._failures = 0

    def succeeded(self) -> None:
        self._failures = 0

    def next_wait_s(self) -> float:
        longest_s = YOUNG_BACKOFF_S if self._failures < YOUNG_ATTEMPTS else LONGEST_BACKOFF_S
        ceiling_s = min(longest_s, FIRST_BACKOFF_S * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return ceiling_s * (0.5 + self._rng.random() / 2)
