"""How fast the simulator is: requests and events a second from 10 to 1,000 workers. `python bench/bench_sim.py [--json]`.

Each worker has 4 slots and holds 4 of 20 models; exponential service of 1 s at 70 % load, loads of 1 s, least-loaded among holders
(weighted-score). "fresh": the decider knows everything at once, and all models are in memory. "central": workers report as they do, every
report is built, sent and taken in. "gossip": the protocol itself up to 50 nodes, drawn delays beyond. Times are of one thread's processor
time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import process_time

from rich.console import Console
from rich.table import Table

from roost.sim import Reports, Simulation, exponential, poisson, zipf

SIZES = (10, 100, 1_000)
REQUESTS = 20_000
LOAD = 0.7
SLOTS = 4


@dataclass(frozen=True, slots=True)
class Result:
    kind: str
    workers: int
    requests: int
    requests_per_s: float
    events_per_s: float


def fresh(workers: int) -> Simulation:
    return Simulation(workers=workers, slots=1, arrivals=poisson(LOAD * workers), service=exponential(1.0), policy="power-of-two")


def busy(workers: int, plane: str) -> Simulation:
    return Simulation(
        workers=workers,
        slots=SLOTS,
        plane=plane,
        arrivals=poisson(LOAD * workers * SLOTS),
        service=exponential(1.0),
        models=20,
        popularity=zipf(20, 1.0),
        cache_models=4,
        load=1.0,
        reports=Reports(),
    )


KINDS: dict[str, Callable[[int], Simulation]] = {
    "fresh": fresh,
    "central": lambda workers: busy(workers, "central"),
    "gossip": lambda workers: busy(workers, "gossip"),
}


def measure(kind: str, workers: int, requests: int) -> Result:
    simulation = KINDS[kind](workers)
    began = process_time()
    run = simulation.run(requests=requests)
    took_s = process_time() - began
    assert run.ledger.closed == requests
    return Result(kind, workers, requests, requests / took_s, run.totals["events"] / took_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    arguments = parser.parse_args()
    results = []
    for kind in KINDS:
        for workers in SIZES:
            # The protocol of a small cluster runs by time, not by requests: a tenth of them shows as much.
            requests = arguments.requests // 10 if kind == "gossip" and workers <= 50 else arguments.requests
            results.append(measure(kind, workers, requests))
            if not arguments.json:
                sys.stderr.write(f"{results[-1]}\n")
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(result) for result in results]) + "\n")
        return 0
    table = Table(title="the simulator")
    for column in ("knowledge", "workers", "requests", "requests/s", "events/s"):
        table.add_column(column, justify="left" if column == "knowledge" else "right")
    for result in results:
        counts = f"{result.requests_per_s:,.0f}", f"{result.events_per_s:,.0f}"
        table.add_row(result.kind, f"{result.workers:,}", f"{result.requests:,}", *counts)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
