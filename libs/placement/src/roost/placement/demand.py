"""How often each model is asked for, and what it costs to have put one out that is asked for again.

State: for each model a rate that fades, and when it was last brought up to date. Time is the caller's. A rate is the number of recent
arrivals, each weighted by `exp(-age / window)`, divided by the window as far as this decider has lived through it.
"""

from __future__ import annotations

import math
from math import exp
from typing import NamedTuple

WINDOW_S = 30.0  # long enough to tell a model that is asked for every ten seconds from one that is not, short enough to follow a crowd
MAX_MODELS = 10_000  # names for which a rate is kept; when there are more, all those that faded to nothing are dropped
_FADED = 1e-3  # arrivals: what one is worth after seven windows


class DemandSnapshot(NamedTuple):
    """A demand written down: since when it was counted, and (model, faded arrivals, as of)."""

    since: float | None
    recent: tuple[tuple[str, float, float], ...]


class Demand:
    """Arrival rates of models, in requests a second."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._recent: dict[str, tuple[float, float]] = {}  # model -> (faded arrivals, as of)
        self._since: float | None = None
        self._divisor: tuple[float, float] = (-math.inf, 1.0)  # as of then: the window, as far as it was lived through

    def arrived(self, model: str, now: float) -> None:
        """One more request asks for the model."""
        if self._since is None:
            self._since = now
        known = self._recent.get(model)
        if known is not None:
            self._recent[model] = (known[0] * exp((known[1] - now) / self._window_s) + 1.0, now)
            return
        if len(self._recent) >= MAX_MODELS:
            self._drop_faded(now)
        if len(self._recent) < MAX_MODELS:
            self._recent[model] = (1.0, now)

    def rate(self, model: str, now: float) -> float:
        """Requests a second, 0.0 for a model that was never asked for. What came before this decider lived is not held against it."""
        known = self._recent.get(model)
        if known is None or self._since is None:
            return 0.0
        if self._divisor[0] != now:
            lived_s = max(1.0, now - self._since)
            self._divisor = (now, self._window_s * (1.0 - exp(-lived_s / self._window_s)))
        return known[0] * exp((known[1] - now) / self._window_s) / self._divisor[1]

    def is_known(self, now: float) -> bool:
        """Whether it has been counted for a whole window."""
        return self._since is not None and now - self._since >= self._window_s

    def snapshot(self) -> DemandSnapshot:
        """All of it."""
        return DemandSnapshot(self._since, tuple((model, faded, as_of) for model, (faded, as_of) in self._recent.items()))

    def restore(self, snapshot: DemandSnapshot) -> None:
        """Go on as the one that was written down."""
        self._since = snapshot.since
        self._recent = {model: (faded, as_of) for model, faded, as_of in snapshot.recent}

    def _drop_faded(self, now: float) -> None:
        self._recent = {
            model: (faded, as_of) for model, (faded, as_of) in self._recent.items() if faded * exp((as_of - now) / self._window_s) >= _FADED
        }

    def __repr__(self) -> str:
        return f"<Demand for {len(self._recent)} models, window {self._window_s:g} s>"


def cost_of_absence_s(rate: float, load_s: float) -> float:
    """Seconds that others are expected to wait because a model was put out: those who ask within one load, each for one load."""
    return rate * load_s * load_s
