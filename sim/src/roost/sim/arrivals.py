"""When requests come: a rate and a shape, or clients that wait for their answers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Protocol

from roost.sim.distributions import Distribution, as_distribution, exponential, gamma_time


class Arrival(NamedTuple):
    """One request comes. `model` is its place in the list of models where the arrivals decide that, else None."""

    at_s: float
    model: int | None = None


class Arrivals(Protocol):
    """An endless stream of arrivals, in order of time."""

    def times(self, rng: Random) -> Iterator[Arrival]: ...


@dataclass(frozen=True, slots=True)
class Renewal:
    """Gaps drawn independently from one distribution."""

    gap: Distribution

    def times(self, rng: Random) -> Iterator[Arrival]:
        now, sample = 0.0, self.gap.sample
        while True:
            now += sample(rng)
            yield Arrival(now)


@dataclass(frozen=True, slots=True)
class Changing:
    """Poisson arrivals whose rate changes: `mean_per_s` (1 + `swing` sin(2π t / `period_s`)), and a crowd on top of it.

    Thinned from the largest rate (Lewis and Shedler, 1979). The crowd's `crowd_per_s` come from `crowd_at_s` for `crowd_s`, all for one
    model if `crowd_model` names its place.
    """

    mean_per_s: float
    swing: float = 0.0
    period_s: float = 86_400.0
    crowd_per_s: float = 0.0
    crowd_at_s: float = 0.0
    crowd_s: float = 0.0
    crowd_model: int | None = None

    def rate(self, at_s: float) -> float:
        """Without the crowd."""
        return self.mean_per_s * (1.0 + self.swing * math.sin(2.0 * math.pi * at_s / self.period_s))

    def times(self, rng: Random) -> Iterator[Arrival]:
        most = self.mean_per_s * (1.0 + self.swing) + self.crowd_per_s
        now = 0.0
        while True:
            now += rng.expovariate(most)
            drawn, usual = rng.random() * most, self.rate(now)
            if drawn < usual:
                yield Arrival(now)
            elif drawn < usual + self.crowd_per_s and self.crowd_at_s <= now < self.crowd_at_s + self.crowd_s:
                yield Arrival(now, self.crowd_model)


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """So many clients; each asks, waits for its answer, thinks, and asks again. They begin spread over `ramp_s`."""

    clients: int
    think: Distribution
    ramp_s: float = 0.0


def poisson(rate_per_s: float) -> Renewal:
    """Independent arrivals, `rate_per_s` of them a second."""
    return Renewal(exponential(1.0 / _positive("rate_per_s", rate_per_s)))


def gamma(rate_per_s: float, cv: float) -> Renewal:
    """Gamma gaps with mean 1 / `rate_per_s` and that CV: bursty above 1, regular below."""
    return Renewal(gamma_time(1.0 / _positive("rate_per_s", rate_per_s), cv))


def renewal(gap: Distribution | float) -> Renewal:
    """Arrivals with independent gaps of that distribution."""
    return Renewal(as_distribution(gap))


def diurnal(mean_per_s: float, *, swing: float = 0.8, period_s: float = 86_400.0) -> Changing:
    """A day and a night: the rate goes up and down by `swing` (0.0-1.0) of its mean."""
    if not 0.0 <= swing <= 1.0:
        raise ValueError(f"swing must be 0.0-1.0 (got {swing})")
    return Changing(_positive("mean_per_s", mean_per_s), swing, _positive("period_s", period_s))


def flash_crowd(base_per_s: float, crowd_per_s: float, *, at_s: float, for_s: float, model: int | None = 0) -> Changing:
    """Poisson arrivals, and from `at_s` for `for_s` seconds `crowd_per_s` more, all for one model (None: as popular as ever)."""
    _positive("crowd_per_s", crowd_per_s)
    return Changing(
        _positive("base_per_s", base_per_s), crowd_per_s=crowd_per_s, crowd_at_s=at_s, crowd_s=_positive("for_s", for_s), crowd_model=model
    )


def closed_loop(clients: int, think: Distribution | float = 0.0, *, ramp_s: float = 0.0) -> ClosedLoop:
    """`clients` that ask one after the other, `think` seconds after each answer."""
    if clients < 1:
        raise ValueError(f"clients must be 1 or more (got {clients})")
    return ClosedLoop(clients, as_distribution(think), ramp_s)


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be more than 0 (got {value})")
    return value
