"""How long a decision takes: every policy at 10 to 10,000 workers and 200 models. `python bench/bench_decisions.py [--json]`.

Each worker has 8 models ready, 4 slots, and a queue and a utilisation that change with each of its reports. After each decision one of the
workers chosen a while ago reports what reached it, so that reservations come and go as they do in service. Times are of the pure core in
one thread, without gRPC; decisions/s is what the median allows. "Cold" are decisions for models that no worker has, in memory that is full.
Growth is what the largest cluster takes divided by what one of 100 workers takes.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from time import perf_counter_ns

from rich.console import Console
from rich.table import Table

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CacheResult, CatalogueModel, DecisionOutcome, ModelStatus, ModelTiming, Phase, WorkerState
from roost.placement.placer import Placer
from roost.placement.registry import policy_names
from roost.placement.request import PlacementRequest

SIZES = (10, 100, 1_000, 10_000)
MODELS = 200
READY_EACH = 8
DECISIONS = 2_000  # of each policy at each size; the first tenth warms up and is not counted
ON_THEIR_WAY = 200  # decisions that no report has shown yet
COLD_DECISIONS = 200
MEMORY_BYTES = READY_EACH * 13_480_000_000
GROWS_FROM = 100
NAMES = tuple(f"model-{number:03}" for number in range(MODELS))
ABSENT = tuple(f"absent-{number:03}" for number in range(COLD_DECISIONS))
CATALOGUE = tuple(CatalogueModel(name, "simulated", 13_480_000_000, is_simulated=True) for name in (*NAMES, *ABSENT))


@dataclass(frozen=True, slots=True)
class Result:
    policy: str
    workers: int
    decisions_per_s: float
    median_us: float
    p99_us: float
    cold_us: float
    report_us: float


def first_reports(workers: int) -> dict[str, WorkerState]:
    rng = random.Random(workers)
    states = {}
    for number in range(workers):
        name = f"worker-{number}"
        ready = rng.sample(NAMES, READY_EACH)
        states[name] = WorkerState(
            name,
            models={model: ModelStatus(model, Phase.READY, 13_480_000_000) for model in ready},
            timings={model: ModelTiming(0.8, 5.0) for model in ready},
            address=f"{name}:8001",
            epoch=1,
            sequence=1,
            slots=4,
            memory_capacity_bytes=MEMORY_BYTES,
            memory_used_bytes=READY_EACH * 13_480_000_000,
            catalogue=CATALOGUE,
        )
    return states


class Cluster:
    """Workers that report what reached them."""

    def __init__(self, policy: str, states: dict[str, WorkerState]) -> None:
        self.rng = random.Random(len(states))
        self.view = ClusterView(catalogue=CATALOGUE)
        self.placer = Placer(self.view, policy, rng=self.rng, decider="bench")
        self.states = dict(states)
        for state in states.values():
            self.view.apply(state, 0.0, is_streamed=True)

    def next_report(self, name: str, outcomes: tuple[DecisionOutcome, ...]) -> WorkerState:
        before = self.states[name]
        busy = self.rng.randrange(5)
        state = WorkerState(
            name,
            models=dict(before.models),
            timings=dict(before.timings),
            address=before.address,
            epoch=1,
            sequence=before.sequence + 1,
            queue_depth=self.rng.randrange(6),
            busy_slots=busy,
            gpu_utilization=round(self.rng.random(), 3),
            slots=4,
            memory_capacity_bytes=MEMORY_BYTES,
            memory_used_bytes=before.memory_used_bytes,
            outcomes=outcomes,
        )
        self.states[name] = state
        return state


def measure(policy: str, states: dict[str, WorkerState]) -> Result:
    cluster = Cluster(policy, states)
    weights = [1 / rank for rank in range(1, MODELS + 1)]  # Zipf, as model popularity is
    requests = [PlacementRequest(f"r{n}", model) for n, model in enumerate(cluster.rng.choices(NAMES, weights, k=DECISIONS))]
    on_their_way: deque[tuple[str, str]] = deque()
    decide_ns: list[int] = []
    report_ns: list[int] = []
    now = 0.0
    gc.collect()
    gc.freeze()  # as the services do after start
    for request in requests:
        now += 1e-4
        started = perf_counter_ns()
        decision = cluster.placer.decide(request, now)
        decide_ns.append(perf_counter_ns() - started)
        on_their_way.append((decision.worker_id, decision.decision_id))
        if len(on_their_way) > ON_THEIR_WAY:
            name, decision_id = on_their_way.popleft()
            state = cluster.next_report(name, (DecisionOutcome(decision_id, CacheResult.HIT),))
            started = perf_counter_ns()
            cluster.view.apply(state, now, is_streamed=True)
            cluster.placer.settle(name, state.outcomes, now)
            report_ns.append(perf_counter_ns() - started)
    cold_ns = []
    for name in ABSENT:
        request = PlacementRequest(name, name)
        now += 1e-4
        started = perf_counter_ns()
        cluster.placer.decide(request, now)
        cold_ns.append(perf_counter_ns() - started)
    gc.unfreeze()
    counted = decide_ns[DECISIONS // 10 :]
    return Result(
        policy,
        len(states),
        decisions_per_s=1e9 / statistics.median(counted),
        median_us=statistics.median(counted) / 1e3,
        p99_us=statistics.quantiles(counted, n=100)[98] / 1e3,
        cold_us=statistics.median(cold_ns) / 1e3,
        report_us=statistics.median(report_ns) / 1e3,
    )


def results() -> Iterator[Result]:
    states = [first_reports(workers) for workers in SIZES]
    for policy in policy_names():
        for of_size in states:
            yield measure(policy, of_size)


def growth(measured: list[Result]) -> Table:
    """What a hundred times as many workers cost."""
    table = Table(title=f"From {GROWS_FROM} to {SIZES[-1]:,} workers, times as long")
    for column in ("policy", "median decision", "cold decision", "report"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for small in (each for each in measured if each.workers == GROWS_FROM):
        large = next(each for each in measured if each.policy == small.policy and each.workers == SIZES[-1])
        pairs = ((large.median_us, small.median_us), (large.cold_us, small.cold_us), (large.report_us, small.report_us))
        table.add_row(small.policy, *(f"{after / before:.2f}" for after, before in pairs))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a placement decision takes.")
    parser.add_argument("--json", action="store_true", help="one JSON object for each line of the table")
    as_json = parser.parse_args().json
    measured: list[Result] = []
    table = Table(title=f"Placement decisions, {MODELS} models, Python {sys.version.split()[0]}")
    for column in ("policy", "workers", "decisions/s", "median µs", "p99 µs", "cold µs", "µs per report"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for result in results():
        measured.append(result)
        table.add_row(
            result.policy if result.workers == SIZES[0] else "",
            f"{result.workers:,}",
            f"{result.decisions_per_s:,.0f}",
            f"{result.median_us:.1f}",
            f"{result.p99_us:.1f}",
            f"{result.cold_us:.1f}",
            f"{result.report_us:.1f}",
            end_section=result.workers == SIZES[-1],
        )
    if as_json:
        for result in measured:
            print(json.dumps({"models": MODELS, **asdict(result)}))
    else:
        Console().print(table)
        Console().print(growth(measured))


if __name__ == "__main__":
    main()
