"""The loads on which `bench_policies` plays the policies, each with the cluster it falls on."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from roost.cluster.catalogue import ModelSpec
from roost.sim import (
    Ask,
    Delays,
    FailingLoads,
    Reports,
    Simulation,
    closed_loop,
    drifting,
    equal_models,
    exponential,
    flash_crowd,
    poisson,
    zipf,
)
from roost.sim.flight import Flight
from roost.sim.machine import Machine
from roost.sim.tournament.regimes import BURST, Regime
from roost.sim.work import Work
from roost.worker.core.residency import Residency

TRACE = Path(__file__).parents[2] / "shared" / "traces" / "lmsys_arena_vtc" / "arena27_trace.csv"
DELAYS = Delays(ask_s=0.001, send_s=0.0005, reply_s=0.0005, spread=0.5)
PEER_S = 60.0
PEER_SERVICE_S = 0.02
PEER_LOAD_S = 0.5
ARENA_BUDGETS = ((4, 40), (4, 80), (8, 40), (8, 80), (16, 40))
ARENA_SIZES_GB = (13.5, 26.0, 13.5, 6.0, 16.0, 26.0, 13.5, 13.5, 32.0)  # 3B to 16B in 16 bits, in turn
CROWD_RATES = [k**-0.9 for k in range(1, 13)]
CROWD_MODEL = 5
BASELINE = "affinity"
CLOSED = ("8 on 8", "12 on 8", "6 on 12", "8 drift")
BOUND = "(all slots, all models)"
OVERCOMMITTED = {
    "A": Regime(workers=5, slots=1, spaces=4, models=40, skew=0.6, service_s=0.05, load_s=3.0, busy=0.5),
    "A burst": Regime(workers=5, slots=1, spaces=4, models=40, skew=0.6, service_s=0.05, load_s=3.0, busy=0.4, arrivals=BURST),
    "B": Regime(workers=8, slots=1, spaces=3, models=48, skew=0.0, service_s=1.0, load_s=10.0, busy=0.5),
    "C": Regime(workers=12, slots=4, spaces=1, models=16, skew=0.6, service_s=3.0, load_s=1.0, busy=0.85),
}


@dataclass(frozen=True, slots=True)
class Workload:
    """`build(policy, seed)` is a run of it that has not begun; `duration_s` None: until the trace ends.

    `has_bound`: answers take as long however many run beside them, so that one worker with all the slots is a bound.
    """

    name: str
    build: Callable[[str, int], Simulation]
    duration_s: float | None = None
    has_bound: bool = True


def shape(policy: str, *, workers: int, slots: int, **memory: int) -> dict[str, Any]:
    """A cluster; for BOUND one worker in place of all, with all that it might need in memory from the beginning."""
    if policy == BOUND:
        return {"policy": BASELINE, "workers": 1, "slots": workers * slots, "warm": True}
    return {"policy": policy, "workers": workers, "slots": slots, "warm": False, **memory}


def peer(name: str, models: int, spaces: int = 2, drifts_every_s: float = 0.0) -> Workload:
    popularity = zipf(models, 0.9)
    if drifts_every_s:
        popularity = drifting(popularity, drifts_every_s)

    def build(policy: str, seed: int) -> Simulation:
        return Simulation(
            **shape(policy, workers=4, slots=2, cache_models=spaces),
            arrivals=closed_loop(32),
            service=PEER_SERVICE_S,
            load=PEER_LOAD_S,
            models=models,
            popularity=popularity,
            seed=seed,
            reports=Reports(),
            delays=DELAYS,
            may_queue=True,
        )

    return Workload(name, build, PEER_S)


def overcommitted(name: str, regime: Regime) -> Workload:
    def build(policy: str, seed: int) -> Simulation:
        if policy != BOUND:
            return regime.simulation(policy, seed)
        pooled = replace(regime, workers=1, slots=regime.workers * regime.slots, spaces=regime.models)
        return Simulation(
            **shape(policy, workers=regime.workers, slots=regime.slots),
            trace=regime.asks(seed),
            service="trace",
            models=pooled.specs(),
            seed=seed,
            reports=Reports(),
            delays=DELAYS,
            may_queue=True,
        )

    return Workload(name, build, regime.duration_s)


def arena_models() -> tuple[ModelSpec, ...]:
    base = equal_models(27, 8)
    sizes = (ARENA_SIZES_GB[number % len(ARENA_SIZES_GB)] for number in range(27))
    tier = {"tier": "published-safetensors-nvme-raid0"}
    return tuple(replace(spec, size_bytes=int(size * 1e9), options=tier) for spec, size in zip(base, sizes, strict=True))


def arena_asks() -> list[Ask]:
    with TRACE.open() as lines:
        rows = list(csv.DictReader(lines))
    names = sorted({row["model"] for row in rows})
    return [Ask(float(row["arrival_s"]), names.index(row["model"]), int(row["prompt_tokens"]), int(row["output_tokens"])) for row in rows]


def arena(workers: int, memory_gb: int) -> Workload:
    def build(policy: str, seed: int) -> Simulation:
        return Simulation(
            **shape(policy, workers=workers, slots=8, memory_bytes=int(memory_gb * 1e9)),
            trace=arena_asks(),
            models=arena_models(),
            seed=seed,
            reports=Reports(),
            delays=DELAYS,
            may_queue=True,
        )

    return Workload(f"arena {workers}x{memory_gb}", build, has_bound=False)


def crowd() -> Workload:
    base_per_s = 20.0
    extra_per_s = 19.0 * base_per_s * CROWD_RATES[CROWD_MODEL] / sum(CROWD_RATES)

    def build(policy: str, seed: int) -> Simulation:
        return _twelve(policy, seed, flash_crowd(base_per_s, extra_per_s, at_s=60.0, for_s=60.0, model=CROWD_MODEL))

    return Workload("crowd", build, 180.0)


def uneven() -> Workload:
    def build(policy: str, seed: int) -> Simulation:
        simulation = _twelve(policy, seed, poisson(40.0))
        fast = simulation.machines[0]
        fast._work = TwiceAsFast(fast._work)  # noqa: SLF001  # the one thing in which this worker differs
        return simulation

    return Workload("uneven", build, 120.0)


def failing() -> Workload:
    def build(policy: str, seed: int) -> Simulation:
        return _twelve(policy, seed, poisson(40.0), failing_loads=[FailingLoads(worker=0, until_s=60.0)])

    return Workload("failing", build, 120.0)


def _twelve(policy: str, seed: int, arrivals: object, failing_loads: Sequence[FailingLoads] = ()) -> Simulation:
    return Simulation(
        **shape(policy, workers=8, slots=4, cache_models=2),
        arrivals=arrivals,  # type: ignore[arg-type]
        service=exponential(0.2),
        load=2.0,
        models=12,
        popularity=zipf(12, 0.9),
        seed=seed,
        reports=Reports(),
        delays=DELAYS,
        may_queue=True,
        failing_loads=failing_loads,
    )


class TwiceAsFast:
    """The work of a machine that takes half the time for everything."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def load_s(self, spec: ModelSpec) -> float:
        return self._work.load_s(spec) / 2

    def expected_load_s(self, spec: ModelSpec) -> float:
        return self._work.expected_load_s(spec) / 2

    def started(self, machine: Machine, flight: Flight, residency: Residency) -> None:
        flight.service_s /= 2
        self._work.started(machine, flight, residency)

    def stopped(self, machine: Machine, flight: Flight, residency: Residency) -> None:
        self._work.stopped(machine, flight, residency)

    def broke_off(self, flight: Flight) -> None:
        self._work.broke_off(flight)

    def forget(self, machine: Machine) -> None:
        self._work.forget(machine)


def workloads() -> list[Workload]:
    budgets = ARENA_BUDGETS if TRACE.exists() else ()
    return [
        peer("8 on 8", 8),
        peer("12 on 8", 12),
        peer("6 on 12", 6, spaces=3),
        peer("8 drift", 8, drifts_every_s=PEER_S / 4),
        *(overcommitted(name, regime) for name, regime in OVERCOMMITTED.items()),
        *(arena(workers, memory_gb) for workers, memory_gb in budgets),
        crowd(),
        uneven(),
        failing(),
    ]
