"""How long generations hold a worker's slot, as their callers have seen it. Pure.

A decider is told by when a generation must have begun; what lies between that and the caller's deadline is the generation itself. What
other generations of the kind took is kept as a mean and a mean deviation, and four deviations are added to the mean, as TCP does for its
timeouts (RFC 6298): under overload every request begins at the last moment, so a mean alone would be too late for half of them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_KINDS: Final = 1_024  # the ones heard of longest ago go first
MEAN_GAIN: Final = 1 / 8  # as RFC 6298
DEVIATION_GAIN: Final = 1 / 4
DEVIATIONS: Final = 4.0

Kind = tuple[str, int]
"""A model, and how many tokens at most were asked for."""


class ServedTimes:
    """State: mean and mean deviation of each kind, in seconds."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Kind, tuple[float, float]] = OrderedDict()

    def note(self, kind: Kind, served_s: float) -> None:
        """A generation of that kind has completed."""
        known = self._seen.pop(kind, None)
        if known is None:
            self._seen[kind] = (served_s, served_s / 2)
            if len(self._seen) > MAX_KINDS:
                self._seen.popitem(last=False)
            return
        mean, deviation = known
        error = served_s - mean
        self._seen[kind] = (mean + MEAN_GAIN * error, deviation + DEVIATION_GAIN * (abs(error) - deviation))

    def expected_s(self, kind: Kind) -> float:
        """What nearly all of that kind need at most; 0.0 if none was seen."""
        mean, deviation = self._seen.get(kind, (0.0, 0.0))
        return mean + DEVIATIONS * deviation

    def __repr__(self) -> str:
        return f"<ServedTimes of {len(self._seen)}/{MAX_KINDS} kinds>"
