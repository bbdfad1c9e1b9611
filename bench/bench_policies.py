"""What each policy makes of the same load: `python bench/bench_policies.py [--json] [--only WORKLOAD] [--policies a,b]`.

Simulated time, the product's own deciders, caches, slots and reports. Every request may wait in the decider; only `expected-wait` ever lets
it. The last line of each table is a bound: one worker that has all the slots and every model in memory, so that no slot is idle while a
request waits; no placement can serve more, and none that does not know how long answers will be waits less on average. (Not for
the arena, where those that run beside each other slow each other down.) Numbers are means over seeds, but for the worst wait. Hits are the
decider's count: a request that waited there for a load is none. Jain's index is of the models' mean times to first token.

- `8 on 8`, `12 on 8`, `6 on 12`: 32 clients in a closed loop ask by Zipf's law (0.9) for 8, 12 or 6 models; 4 workers with 2 slots and room
  for 2 models each, or 3; loads take 0.5 s, answers 20 ms. `8 drift`: as 8 on 8, and every 15 s the coldest model becomes the hottest.
- `A`, `B`, `C`: more models than memory, of the tournament's regimes: many short answers and long loads, single requests and very long
  loads, and long answers on few models a worker. `A burst`: with ten seconds of twice the rate.
- `arena WxG`: 1,500 requests to 27 models as they came to a public arena of language models (../shared/traces, where it is there), on W
  workers with G GB and 8 slots. The sizes of 6-32 GB are assumed, for the trace has none; times follow from them at published speeds.
- `crowd`: for a minute one of 12 models is asked for twenty times as often; 8 workers with 4 slots and room for 2 models, loads of 2 s.
- `uneven`: the same without the crowd, and one worker serves and loads twice as fast.
- `failing`: the same without the crowd, and on one worker every load fails for the first minute, at once; then it is mended.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from time import perf_counter

from policy_workloads import ARENA_BUDGETS, BASELINE, BOUND, CLOSED, PEER_LOAD_S, PEER_SERVICE_S, TRACE, Workload, workloads
from rich.console import Console
from rich.table import Table

from roost.placement.costs import RESIDENCY_LOADS
from roost.placement.registry import policy_names
from roost.placement.turns import turn_s
from roost.sim.central import CentralPlane
from roost.sim.summary import quantile
from roost.sim.tournament.judging import MARGIN, NOTICEABLE_S

# How long a request waits at most in `12 on 8`: until its model's turn has come; for one load that was due before it on its worker (only
# four models are absent at a time), and until what that loaded may leave; for its own load; and for the others of its line.
WORST_S = turn_s(PEER_LOAD_S, PEER_SERVICE_S, 2, 12 / 8) + (1 + RESIDENCY_LOADS + 1) * PEER_LOAD_S + 32 * PEER_SERVICE_S


@dataclass(frozen=True, slots=True)
class Result:
    workload: str
    policy: str
    hit_rate: float
    requests_per_s: float
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    worst_s: float
    loads: int
    failed_loads: int
    fairness: float
    models_served: int
    failed: int
    fastest_model_s: float
    slowest_model_s: float


def measure(workload: Workload, policy: str, seed: int) -> Result:
    simulation = workload.build(policy, seed)
    run = simulation.run(duration_s=workload.duration_s)
    assert isinstance(simulation.plane, CentralPlane)
    ledger, waits_s = run.ledger, sorted(run.ttfts)
    by_model: dict[int, list[float]] = {}
    for number in ledger.served():
        by_model.setdefault(ledger.model[number], []).append(ledger.ttft_s[number])
    means = [fmean(each) for each in by_model.values()]
    return Result(
        workload.name,
        policy,
        hit_rate=simulation.plane.placer.statistics.cache_hit_rate,
        requests_per_s=len(waits_s) / run.duration_s,
        mean_s=fmean(waits_s),
        p50_s=quantile(waits_s, 0.5),
        p95_s=quantile(waits_s, 0.95),
        p99_s=quantile(waits_s, 0.99),
        worst_s=waits_s[-1],
        loads=int(run.totals["loads"]),
        failed_loads=int(run.totals["failed_loads"]),
        fairness=sum(means) ** 2 / (len(means) * sum(mean * mean for mean in means)),
        models_served=len(by_model),
        failed=len(ledger) - len(waits_s),
        fastest_model_s=min(means),
        slowest_model_s=max(means),
    )


def mean_of(runs: list[Result]) -> Result:
    """Means over seeds; the worst of all, and the fewest models served."""
    first = runs[0]

    def mean(name: str) -> float:
        return fmean(float(getattr(run, name)) for run in runs)

    return replace(
        first,
        hit_rate=mean("hit_rate"),
        requests_per_s=mean("requests_per_s"),
        mean_s=mean("mean_s"),
        p50_s=mean("p50_s"),
        p95_s=mean("p95_s"),
        p99_s=mean("p99_s"),
        worst_s=max(run.worst_s for run in runs),
        loads=round(mean("loads")),
        failed_loads=round(mean("failed_loads")),
        fairness=mean("fairness"),
        models_served=min(run.models_served for run in runs),
        failed=sum(run.failed for run in runs),
        fastest_model_s=mean("fastest_model_s"),
        slowest_model_s=mean("slowest_model_s"),
    )


def bars(results: dict[tuple[str, str], Result]) -> Iterator[tuple[str, bool]]:
    """What `expected-wait` is held to, and whether it holds, as far as it was run."""

    def get(workload: str, policy: str = "expected-wait") -> Result | None:
        return results.get((workload, policy))

    if few := get("8 on 8"):
        yield f"8 on 8: hits {few.hit_rate:.3f} of at least 0.97", few.hit_rate >= 0.97
    many, plain = get("12 on 8"), get("12 on 8", BASELINE)
    if many and plain:
        times = many.requests_per_s / plain.requests_per_s
        yield f"12 on 8: {times:.2f} times the throughput of {BASELINE}, of at least 1.3", times >= 1.3
        yield (
            f"12 on 8: {many.models_served} models served, the worst wait {many.worst_s:.2f} s of at most {WORST_S:.2f}",
            (many.models_served == 12 and many.worst_s <= WORST_S),
        )
    for name in CLOSED:
        if (ours := get(name)) and (bound := get(name, BOUND)) and (plain := get(name, BASELINE)):
            rates = f"{BASELINE} {plain.requests_per_s:.0f}, all slots busy {bound.requests_per_s:.0f}"
            yield f"{name}: {ours.requests_per_s:.0f} requests/s, {rates}", ours.requests_per_s >= plain.requests_per_s
    for workers, memory_gb in ARENA_BUDGETS:
        name = f"arena {workers}x{memory_gb}"
        ours, plain = get(name), get(name, BASELINE)
        if ours and plain:
            others = [result for (workload, policy), result in results.items() if workload == name and policy != "expected-wait"]
            best = min(others, key=lambda result: result.p99_s)
            yield f"{name}: p99 {ours.p99_s:.3f} s, the best baseline ({best.policy}) {best.p99_s:.3f} s", ours.p99_s < best.p99_s
            yield f"{name}: hits {ours.hit_rate:.3f}, {BASELINE}'s {plain.hit_rate:.3f}", ours.hit_rate >= plain.hit_rate

    for name in dict.fromkeys(workload for workload, _ in results):
        ours = get(name)
        others = [result for (workload, policy), result in results.items() if workload == name and policy not in {"expected-wait", BOUND}]
        others = [result for result in others if ours and result.failed <= ours.failed]
        # In a closed loop clients who wait for a crowded model ask for no others: half of the requests can be fast because others are slow.
        measures = ("mean_s", "p95_s", "p99_s") if name in CLOSED else ("mean_s", "p50_s", "p95_s", "p99_s")
        for measure in measures if ours and others else ():
            best = min(others, key=lambda result: float(getattr(result, measure)))
            own_s, best_s = float(getattr(ours, measure)), float(getattr(best, measure))
            told = f"{name}: {measure[:-2]} {own_s:.3f} s, best or within a tenth of the best ({best.policy}, {best_s:.3f})"
            yield told, own_s <= MARGIN * best_s + NOTICEABLE_S


def show(workload: str, results: list[Result], elapsed_s: float) -> Table:
    table = Table(title=f"{workload} ({elapsed_s:.0f} s to simulate)")
    for column in (
        "policy",
        "hits",
        "requests/s",
        "mean s",
        "p50 s",
        "p95 s",
        "p99 s",
        "worst s",
        "loads",
        "failed loads",
        "Jain",
        "models",
        "by model s",
        "failed",
    ):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for result in results:
        table.add_row(
            result.policy,
            f"{result.hit_rate:.3f}",
            f"{result.requests_per_s:.1f}",
            *(f"{seconds:.3f}" for seconds in (result.mean_s, result.p50_s, result.p95_s, result.p99_s, result.worst_s)),
            str(result.loads),
            str(result.failed_loads),
            f"{result.fairness:.2f}",
            str(result.models_served),
            f"{result.fastest_model_s:.3f}-{result.slowest_model_s:.3f}",
            str(result.failed),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="The policies on the same simulated loads.")
    parser.add_argument("--json", action="store_true", help="one JSON object for each line of the tables")
    parser.add_argument("--only", default="", help="workloads whose names begin with this")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, whose means are shown")
    parser.add_argument("--policies", default=",".join(policy_names()), help="names, with commas")
    asked = parser.parse_args()
    results: dict[tuple[str, str], Result] = {}
    console = Console(width=170)
    for workload in workloads():
        if not workload.name.startswith(asked.only):
            continue
        started = perf_counter()
        lines = [
            mean_of([measure(workload, policy, seed) for seed in range(1, asked.seeds + 1)])
            for policy in (*asked.policies.split(","), *([BOUND] if workload.has_bound else []))
        ]
        results |= {(workload.name, line.policy): line for line in lines}
        if asked.json:
            for line in lines:
                print(json.dumps(asdict(line)), flush=True)
        else:
            console.print(show(workload.name, lines, perf_counter() - started))
    if not asked.json:
        if not TRACE.exists():
            print("the arena's trace is not there: its workloads were left out", file=sys.stderr)
        for bar, holds in bars(results):
            print(f"{'holds ' if holds else 'MISSED'} {bar}")


if __name__ == "__main__":
    main()
