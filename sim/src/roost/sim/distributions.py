"""Times by chance: service, load and think times, and the gaps between arrivals. Each has its mean in its name's first argument."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Draw = Callable[[Random], float]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values of 0.0 or more. `cv` is the standard deviation divided by the mean."""

    name: str
    mean: float
    cv: float
    sample: Draw

    def __repr__(self) -> str:
        return f"<{self.name} mean={self.mean:g} cv={self.cv:g}>"


def _checked(name: str, value: float, *, lowest: float = 0.0, is_open: bool = True) -> float:
    if not math.isfinite(value) or value < lowest or (is_open and value == lowest):
        raise ValueError(f"{name} must be {'more than' if is_open else 'at least'} {lowest:g} (got {value})")
    return value


def deterministic(value_s: float) -> Distribution:
    """Always `value_s`, which may be 0."""
    value = float(_checked("value_s", value_s, is_open=False))
    return Distribution("deterministic", value, 0.0, lambda _rng: value)


def exponential(mean_s: float) -> Distribution:
    """Without memory, CV 1."""
    rate = 1.0 / _checked("mean_s", mean_s)
    return Distribution("exponential", mean_s, 1.0, lambda rng: rng.expovariate(rate))


def gamma_time(mean_s: float, cv: float) -> Distribution:
    """Gamma with that mean and CV: shape 1 / cv², smoother than exponential below CV 1 and burstier above."""
    shape = 1.0 / _checked("cv", cv) ** 2
    scale = _checked("mean_s", mean_s) / shape
    return Distribution("gamma", mean_s, cv, lambda rng: rng.gammavariate(shape, scale))


def lognormal(mean_s: float, cv: float) -> Distribution:
    """Log-normal with that mean and CV: token counts of chats look like it."""
    variance = math.log(1.0 + _checked("cv", cv) ** 2)
    mu, sigma = math.log(_checked("mean_s", mean_s)) - variance / 2, math.sqrt(variance)
    return Distribution("lognormal", mean_s, cv, lambda rng: rng.lognormvariate(mu, sigma))


def uniform_between(low_s: float, high_s: float) -> Distribution:
    """Equally likely between the two."""
    _checked("low_s", low_s, is_open=False)
    _checked("high_s", high_s, lowest=low_s, is_open=False)
    mean = (low_s + high_s) / 2
    cv = (high_s - low_s) / math.sqrt(12.0) / mean if mean else 0.0
    return Distribution("uniform", mean, cv, lambda rng: low_s + (high_s - low_s) * rng.random())


def as_distribution(value: Distribution | float) -> Distribution:
    """A number stands for itself, always."""
    return value if isinstance(value, Distribution) else deterministic(value)
