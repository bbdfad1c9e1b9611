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
    """Shares of the models, most popular first where they differ; they sum to 1."""

    shares: tuple[float, ...]

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


def uniform(models: int) -> Popularity:
    """All alike."""
    return zipf(models, 0.0)


def shares(weights: Sequence[float]) -> Popularity:
    """In proportion to `weights`."""
    total = math.fsum(weights)
    if not weights or min(weights) < 0 or total <= 0:
        raise ValueError("weights must be 0 or more, and one of them above 0")
    return Popularity(tuple(weight / total for weight in weights))
