"""Which model a request is for."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random


@dataclass(frozen=True, slots=True)
class Popularity:
    """Shares of the models, most popular first where they differ; they sum to 1.

    `drifts_every_s`: so often the model that was asked for least is asked for most, and every other one place less; 0: never.
    """

    shares: tuple[float, ...]
    drifts_every_s: float = 0.0

    def at(self, place: int, now: float) -> int:
        """The model that has this place of popularity then."""
        return (place - int(now / self.drifts_every_s)) % len(self.shares) if self.drifts_every_s else place

    def picker(self, rng: Random) -> Callable[[], int]:
        """Draws the place of a model in the list of models."""
        if len(self.shares) == 1:
            return lambda: 0
        bounds, draw = list(accumulate(self.shares)), rng.random
        last = len(bounds) - 1
        return lambda: min(bisect_right(bounds, draw()), last)


def zipf(models: int, alpha: float = 1.0) -> Popularity:
    """The k-th of `models` is asked for in proportion to 1 / k^alpha; alpha 0 makes all alike."""
    if models < 1 or alpha < 0:
        raise ValueError(f"models must be 1 or more and alpha 0 or more (got {models} and {alpha})")
    return shares([k**-alpha for k in range(1, models + 1)])


def drifting(popularity: Popularity, every_s: float) -> Popularity:
    """The same shares, which change hands every so often."""
    if not every_s > 0:
        raise ValueError(f"every_s must be more than 0 (got {every_s})")
    return Popularity(popularity.shares, every_s)


def uniform(models: int) -> Popularity:
    """All alike."""
    return zipf(models, 0.0)


def shares(weights: Sequence[float]) -> Popularity:
    """In proportion to `weights`."""
    total = math.fsum(weights)
    if not weights or min(weights) < 0 or total <= 0:
        raise ValueError("weights must be 0 or more, and one of them above 0")
    return Popularity(tuple(weight / total for weight in weights))
