"""What recording costs: decisions with records off, kept in the ring, and written to a file. `python bench/bench_recording.py [--json]`.

10 workers, and 1,000 workers with 200 models, 8 of them ready on each. Each decision is followed by a report of the worker chosen a while
ago, as in bench_decisions. Times are medians of one call in the event loop's thread, with the thread that writes beside it; bytes are what
one decision and one report take in the file, and "begin" is how long the decider stands still when a file begins.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog
from bench_decisions import CATALOGUE, MODELS, NAMES, ON_THEIR_WAY, Cluster, first_reports
from rich.console import Console
from rich.table import Table

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CacheResult, DecisionOutcome
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.facts import Reported
from roost.placement.records import DecisionRecords
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms
from roost.service.scheduler.recorder import recording
from roost.service.scheduler.shell import DeciderShell

SIZES = (10, 1_000)
POLICIES = ("weighted-score", "expected-wait")
DECISIONS = 2_000
BYTES = 10**11
BURST = 100  # decisions in a row, after which the writing thread has the processor, as it has between calls in service
PAUSE_S = 0.06
LOG = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))  # stdout is for the numbers


@dataclass(frozen=True, slots=True)
class Result:
    policy: str
    workers: int
    records: str
    decision_us: float
    report_us: float
    decision_bytes: float
    report_bytes: float
    begin_ms: float


@contextmanager
def shell_of(policy: str, workers: int, records: str, folder: Path) -> Iterator[tuple[Cluster, DeciderShell, Clock, float]]:
    ring = DecisionRecords() if records == "ring" else None
    cluster, clock = Cluster(policy, first_reports(workers)), Clock()
    file = folder / "decisions.jsonl" if records == "file" else None
    with recording(file, BYTES, plane="central", wall_offset_s=0.0, changed=lambda *_: None, log=LOG) as tap:
        decider = Decider(ClusterView(catalogue=CATALOGUE), Terms("bench", policy), rng=random.Random(1), records=ring)
        began = 0.0
        for state in first_reports(workers).values():
            decider.hear(Reported(state, is_streamed=True), 0.0)
        decider.effects()
        if tap is not None:
            gc.collect()
            started = time.perf_counter()
            tap.begin(decider)
            began = time.perf_counter() - started
        yield cluster, DeciderShell(decider, clock=clock, taps=[] if tap is None else [tap]), clock, began


class Clock:
    """The time, as it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def measure(policy: str, workers: int, records: str) -> Result:
    with tempfile.TemporaryDirectory() as name, shell_of(policy, workers, records, Path(name)) as (cluster, shell, clock, began):
        weights = [1 / rank for rank in range(1, MODELS + 1)]
        requests = [PlacementRequest(f"r{n}", model) for n, model in enumerate(cluster.rng.choices(NAMES, weights, k=DECISIONS))]
        on_their_way: deque[tuple[str, str]] = deque()
        times: list[float] = []
        reports: list[float] = []
        gc.collect()
        gc.freeze()
        for number, request in enumerate(requests):
            clock.now = number * 1e-4
            if number % BURST == 0:
                time.sleep(PAUSE_S)
            started = time.perf_counter()
            decision = shell.ask(request)
            times.append(time.perf_counter() - started)
            assert isinstance(decision, Decision)  # nobody waits here
            on_their_way.append((decision.worker_id, decision.decision_id))
            if len(on_their_way) > ON_THEIR_WAY:
                worker_id, decision_id = on_their_way.popleft()
                report = cluster.next_report(worker_id, (DecisionOutcome(decision_id, CacheResult.HIT),))
                started = time.perf_counter()
                shell.hear(Reported(report, is_streamed=True))
                reports.append(time.perf_counter() - started)
        time.sleep(0.5)  # until all is written
        gc.unfreeze()
        file = Path(name) / "decisions.jsonl"
        return Result(
            policy,
            workers,
            records,
            1e6 * statistics.median(times),
            1e6 * statistics.median(reports),
            _line_bytes(file, "ask"),
            _line_bytes(file, "report"),
            1e3 * began,
        )


def _line_bytes(file: Path, kind: str) -> float:
    """The mean of that kind's lines."""
    if not file.exists():
        return 0.0
    sizes = [len(line) for line in file.read_text().splitlines() if f'"op":"{kind}"' in line]
    return sum(sizes) / max(1, len(sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
    results = [measure(policy, workers, records) for policy in POLICIES for workers in SIZES for records in ("off", "ring", "file")]
    if parser.parse_args().json:
        sys.stdout.writelines(json.dumps(asdict(result)) + "\n" for result in results)
        return
    table = Table(
        "policy", "workers", "records", "decision µs", "report µs", "bytes a decision", "a report", "begin ms", title="What recording costs"
    )
    for each in results:
        numbers = (
            f"{each.decision_us:.2f}",
            f"{each.report_us:.2f}",
            f"{each.decision_bytes:.0f}",
            f"{each.report_bytes:.0f}",
            f"{each.begin_ms:.1f}",
        )
        table.add_row(each.policy, f"{each.workers:,}", each.records, *numbers)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
