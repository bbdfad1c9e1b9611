"""Regimes by chance: how big a cluster is, how much of it is asked for, and in which way.

A regime says what a cluster and its load are like; its requests are drawn from it and a seed, and are the same for every policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice, takewhile
from random import Random

from roost.cluster.catalogue import ModelSpec
from roost.sim.clients import Delays
from roost.sim.distributions import exponential, gamma_time
from roost.sim.fleet_of import equal_models
from roost.sim.links import Reports
from roost.sim.popularity import drifting, zipf
from roost.sim.seeds import rng_for
from roost.sim.simulation import Simulation
from roost.sim.workload import Ask
from roost.worker.engines.published import BANDWIDTH_BY_TIER, DEFAULT_TIER

POISSON, BURSTY, BURST = "poisson", "bursty", "burst"
EQUAL, UNEQUAL = "equal", "unequal"
STEADY, DRIFTING = "steady", "drifting"
BURSTY_CV = 4.0
BURST_S = 10.0  # of twice the rate
SIZES = (0.5, 0.75, 1.0, 1.75)  # of unequal models, in turn; their mean is 1
DRIFTS = 3  # times in a run that the model which was asked for least is asked for most
QUEUE_CAPACITY = 256  # of a worker as it is shipped
MOST_REQUESTS = 3_000  # about as many are drawn, if that is not too short a time to tell anything
SHORTEST_S, LONGEST_S = 40.0, 300.0
HIGHEST_RATE_PER_S = 400.0  # of a regime: more take minutes to play
DELAYS = Delays(ask_s=0.001, send_s=0.0005, reply_s=0.0005, spread=0.5)


@dataclass(frozen=True, slots=True)
class Regime:
    """`spaces`: models of mean size that one worker has memory for; `busy`: the share of all slots' time that is asked for."""

    workers: int
    slots: int
    spaces: int
    models: int
    skew: float
    service_s: float
    load_s: float
    busy: float
    arrivals: str = POISSON
    sizes: str = EQUAL
    popularity: str = STEADY

    @property
    def rate_per_s(self) -> float:
        return self.busy * self.workers * self.slots / self.service_s

    @property
    def duration_s(self) -> float:
        """Long enough for 20 loads, as far as that many requests allow it."""
        rate = self.rate_per_s
        wanted_s = min(max(60.0, 20.0 * self.load_s), MOST_REQUESTS / rate) if rate > 10.0 else LONGEST_S
        return max(SHORTEST_S, wanted_s)

    @property
    def name(self) -> str:
        """As it stands in a table."""
        extras = "".join(f" {word}" for word in (self.arrivals, self.sizes, self.popularity) if word not in {POISSON, EQUAL, STEADY})
        return (
            f"{self.workers}×{self.slots}×{self.spaces}, {self.models} models z{self.skew:g}, {self.service_s:g} s service, "
            f"{self.load_s:g} s loads, {self.busy:g} busy{extras}"
        )

    def asks(self, seed: int) -> Iterator[Ask]:
        """The requests of one run, in order."""
        popularity = zipf(self.models, self.skew)
        if self.popularity == DRIFTING:
            popularity = drifting(popularity, self.duration_s / (DRIFTS + 1))
        pick = popularity.picker(rng_for(seed, "models"))
        service, service_rng = exponential(self.service_s), rng_for(seed, "service")
        for at_s in takewhile(lambda at_s: at_s <= self.duration_s, self._times(rng_for(seed, "arrivals"))):
            yield Ask(at_s, popularity.at(pick(), at_s), service_s=service.sample(service_rng))

    def _times(self, rng: Random) -> Iterator[float]:
        mean_s = 1.0 / self.rate_per_s
        gap = gamma_time(mean_s, BURSTY_CV) if self.arrivals == BURSTY else exponential(mean_s)
        begins_s = self.duration_s / 2.0 if self.arrivals == BURST else float("inf")
        now = 0.0
        for _ in count():
            hasty = 2.0 if begins_s <= now < begins_s + BURST_S else 1.0
            now += gap.sample(rng) / hasty
            yield now

    def specs(self) -> tuple[ModelSpec, ...]:
        """The models; a load takes as long as its model is big."""
        sizes = SIZES if self.sizes == UNEQUAL else (1.0,)
        return tuple(
            replace(spec, size_bytes=int(spec.size_bytes * sizes[number % len(sizes)]), options={"time_scale": self._time_scale(spec)})
            for number, spec in enumerate(equal_models(self.models, self.slots))
        )

    def _time_scale(self, spec: ModelSpec) -> float:
        return self.load_s * BANDWIDTH_BY_TIER[DEFAULT_TIER] / spec.size_bytes

    def simulation(self, policy: str, seed: int, plane: str = "central") -> Simulation:
        """One run of it that has not begun."""
        specs = self.specs()
        mean_bytes = equal_models(1, self.slots)[0].size_bytes
        memory_bytes = max(self.spaces * mean_bytes, *(spec.size_bytes for spec in specs))
        return Simulation(
            workers=self.workers,
            slots=self.slots,
            trace=self.asks(seed),
            service="trace",
            models=specs,
            memory_bytes=memory_bytes,
            warm=False,
            queue_capacity=QUEUE_CAPACITY,
            policy=policy,
            plane=plane,
            seed=seed,
            reports=Reports(),
            delays=DELAYS,
            may_queue=True,
        )


def drawn_regimes(number: int, seed: int) -> list[Regime]:
    """So many, by chance; those that would take too long to play are drawn again."""
    rng = rng_for(seed, "regimes")
    playable = (regime for regime in iter(lambda: _drawn(rng), None) if regime.rate_per_s <= HIGHEST_RATE_PER_S)
    return list(islice(playable, number))


def _drawn(rng: Random) -> Regime:
    workers, slots, spaces = rng.choice([3, 5, 8, 12, 20]), rng.choice([1, 2, 4, 8]), rng.choice([1, 2, 3, 4])
    models_per_space = rng.choice([0.15, 0.3, 0.5, 0.8, 1.0, 1.3, 2.0])
    return Regime(
        workers=workers,
        slots=slots,
        spaces=spaces,
        models=max(1, round(workers * spaces * models_per_space)),
        skew=rng.choice([0.0, 0.6, 0.9, 1.2]),
        service_s=rng.choice([0.05, 0.2, 1.0, 3.0]),
        load_s=rng.choice([0.3, 1.0, 3.0, 10.0]),
        busy=rng.choice([0.3, 0.5, 0.7, 0.85]),
        arrivals=rng.choice([POISSON, POISSON, BURSTY, BURST]),
        sizes=rng.choice([EQUAL, EQUAL, UNEQUAL]),
        popularity=rng.choice([STEADY, STEADY, DRIFTING]),
    )
