"""What a worker's report costs on its way, by how many models are resident. `python bench/bench_reports.py [--json]`.

A worker of 4 slots with all models ready and measured serves one request after the other, each of another model, and reports each arrival
and each end. "Build": the core's report. "Take in": the coordinator's decider. "Wire": into bytes, and back out of them. "Simulated": a
request in virtual time on 10 such workers, reports and all. Medians of one thread, in microseconds.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from time import perf_counter_ns, process_time
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import WorkerState
from roost.placement.decider import Decider
from roost.placement.facts import Reported
from roost.placement.terms import Terms
from roost.service.report_changes import ReportReader, changes_to_wire
from roost.sim import Reports as ReportPace
from roost.sim import Simulation, exponential, poisson
from roost.v1 import state_pb2
from roost.worker.core.effects import StartLoad
from roost.worker.core.jobs import Job
from roost.worker.core.reports import Reports
from roost.worker.core.worker_core import Capacity, WorkerCore

RESIDENT = (1, 20, 100, 1_000)
REPORTS = 4_000  # each; the first tenth warms up and is not counted
SIMULATED_REQUESTS = 5_000
MB = 1_000_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    model: str
    priority: int = 0
    decision_id: str = ""
    waited_for_load: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    resident: int
    build_us: float
    take_in_us: float
    to_wire_us: float
    from_wire_us: float
    wire_bytes: float
    simulated_request_us: float


class Clock:
    """State: what each step took so far."""

    def __init__(self) -> None:
        self.took: dict[str, list[int]] = {}

    def time(self, step: str, act: Callable[[], T]) -> T:
        began = perf_counter_ns()
        done = act()
        self.took.setdefault(step, []).append(perf_counter_ns() - began)
        return done

    def median_us(self, step: str) -> float:
        took = self.took[step]
        return statistics.median(took[len(took) // 10 :]) / 1e3


def warm_core(resident: int) -> WorkerCore:
    """Everything is loaded and was served once."""
    specs = [ModelSpec(f"model-{n:04}", "simulated", "published", MB, max_parallel=4) for n in range(resident)]
    core = WorkerCore("worker-0", Catalogue(specs), Capacity(resident * MB, 4, 64), unmeasured_load_s=lambda _: 1.0)
    for spec in specs:
        job = core.arrive(Request(spec.name), 0.0)
        for effect in core.effects():
            if isinstance(effect, StartLoad):
                core.loaded(effect.residency, 4, 1.0)
        core.leave(job, 1.5, is_ok=True)
        core.effects()
    return core


def changes(core: WorkerCore) -> Iterator[float]:
    """The times at which something has changed: two of them a request."""
    rng, now = random.Random(1), 2.0
    names = core.catalogue.names
    while True:
        now += 0.01
        job: Job = core.arrive(Request(rng.choice(names)), now)
        core.effects()
        yield now
        now += 0.01
        core.leave(job, now, is_ok=True)
        core.effects()
        yield now


def measure(resident: int) -> Result:
    core = warm_core(resident)
    reports, clock = Reports(core, epoch=1), Clock()
    decider = Decider(ClusterView(), Terms("bench"), rng=random.Random(1))
    reader, last = ReportReader(), 0
    wire_bytes: list[int] = []
    gc.collect()
    gc.freeze()  # as the services do after start
    for _, now in zip(range(REPORTS), changes(core), strict=False):
        state = clock.time("build", lambda now=now, last=last: next_report(reports, now, last))  # type: ignore[misc]
        sent = clock.time("to wire", lambda state=state: changes_to_wire(state).SerializeToString())  # type: ignore[misc]
        known = clock.time("from wire", lambda sent=sent: received(reader, sent))  # type: ignore[misc]
        clock.time("take in", lambda known=known, now=now: decider.hear(Reported(known, is_streamed=True, stream=1), now))  # type: ignore[misc]
        wire_bytes.append(len(sent))
        last = state.sequence
    gc.unfreeze()
    return Result(
        resident,
        clock.median_us("build"),
        clock.median_us("take in"),
        clock.median_us("to wire"),
        clock.median_us("from wire"),
        statistics.median(wire_bytes),
        simulated_request_us(resident),
    )


def next_report(reports: Reports, now: float, last: int) -> WorkerState:
    return reports.next_report(now, now, None, has_catalogue=not last, outcomes=(), follows=last)


def received(reader: ReportReader, sent: bytes) -> WorkerState:
    return reader.read(state_pb2.WorkerLoadReport.FromString(sent))


def simulated_request_us(resident: int) -> float:
    simulation = Simulation(
        workers=10, slots=4, models=resident, warm=True, arrivals=poisson(28.0), service=exponential(1.0), load=1.0, reports=ReportPace()
    )
    began = process_time()
    simulation.run(requests=SIMULATED_REQUESTS)
    return (process_time() - began) / SIMULATED_REQUESTS * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description="What a worker's report costs on its way.")
    parser.add_argument("--json", action="store_true", help="one JSON object for each line of the table")
    as_json = parser.parse_args().json
    results = [measure(resident) for resident in RESIDENT]
    if as_json:
        sys.stdout.writelines(json.dumps(asdict(result)) + "\n" for result in results)
        return 0
    table = Table(title=f"One report, Python {sys.version.split()[0]}")
    for column in ("resident models", "build µs", "take in µs", "to wire µs", "from wire µs", "bytes", "simulated request µs"):
        table.add_column(column, justify="right")
    for each in results:
        times = (each.build_us, each.take_in_us, each.to_wire_us, each.from_wire_us)
        table.add_row(f"{each.resident:,}", *(f"{us:.1f}" for us in times), f"{each.wire_bytes:,.0f}", f"{each.simulated_request_us:.0f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
