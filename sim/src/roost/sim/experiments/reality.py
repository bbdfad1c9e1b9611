"""Experiment 4, reality: the same plan in the simulator and on real processes of this machine. How far apart are they?

What it costs a request to go from process to process is measured during the real run, and given to the simulator as a delay; nothing is
fitted to the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from roost.sim.clients import Delays
from roost.sim.experiments.counted import counted_hit_rate, summarized
from roost.sim.experiments.outcome import Chart, Claim, Figure, Line, Outcome, Progress, Table, distribution
from roost.sim.experiments.plan import CENTRAL, GOSSIP, Plan, Setup
from roost.sim.experiments.statistics import Verdict, paired
from roost.sim.records import RunRecord
from roost.sim.summary import Summary, quantile

NUMBER, TITLE = 4, "Reality"
QUESTION = "Does the simulator say what real processes do?"
PLANES = (CENTRAL, GOSSIP)
HIT_POINTS = 0.02
TTFT_SHARE = 0.15
CHANCES = 5  # simulated runs of each plan: what happens at once happens in another order each time, in real runs as well

Live = Callable[[Plan], tuple[RunRecord, Delays]]
Simulate = Callable[[Plan, Delays, int], RunRecord]  # the last tells apart runs of one plan that differ in chance alone
Pair = tuple[RunRecord, list[RunRecord]]  # a real run, and the simulated ones of the same plan


def run(
    live: Live, simulate: Simulate, setup: Setup, seeds: Sequence[int], progress: Progress, *, planes: Sequence[str] = PLANES
) -> Outcome:
    pairs: dict[str, list[Pair]] = {plane: [] for plane in planes}
    measured: dict[str, object] = {}
    for plane in planes:
        for seed in seeds:
            progress(f"reality: {plane}, seed {seed}, on real processes")
            plan = Plan(plane, setup, seed)
            real, delays = live(plan)
            progress(f"reality: {plane}, seed {seed}, simulated")
            pairs[plane].append((real, [simulate(plan, delays, chance) for chance in range(CHANCES)]))
            measured[f"{plane} {seed}"] = {
                "delays": asdict(delays), "real": summarized(real), "simulated": [summarized(run) for run in pairs[plane][-1][1]]
            }  # fmt: skip
    return Outcome(
        NUMBER, TITLE, QUESTION, tuple(_claim(plane, pairs[plane]) for plane in planes), (_table(pairs),),
        (_figure(pairs),), LIMITS, measured,
    )  # fmt: skip


LIMITS = (
    "All processes and the client share this machine; where its processors are busy otherwise, real times grow and simulated ones do not.",
    "The engine on both sides is the simulated one, whose times are slept: what is compared is placement, caches, queues and the planes.",
    "Runs of one plan differ in what happens at once, by gossip by several points of hits; each is simulated five times, and run once.",
)


def _pooled(runs: Sequence[RunRecord]) -> tuple[float, float, float]:
    """Hit rate, median and p95 time to first token of all requests of the runs."""
    served = [request for run in runs for request in run.requests if request.is_served]
    first = [request.ttft_s for request in served]
    return counted_hit_rate(runs), quantile(first, 0.5), quantile(first, 0.95)


def _claim(plane: str, pairs: Sequence[Pair]) -> Claim:
    real, simulated = _pooled([one for one, _ in pairs]), _pooled([run for _, others in pairs for run in others])
    points = abs(real[0] - simulated[0])
    shares = [simulated[number] / real[number] - 1.0 for number in (1, 2)]
    is_close = points <= HIT_POINTS and all(abs(share) <= TTFT_SHARE for share in shares)
    by_plan = paired([100 * counted_hit_rate([one]) for one, _ in pairs], [100 * counted_hit_rate(others) for _, others in pairs])
    because = (
        f"Hit rate {real[0]:.3f} real and {simulated[0]:.3f} simulated ({100 * points:.1f} points apart; "
        f"real less simulated, plan by plan: {by_plan:.1f}); "
        f"median {real[1]:.3f} s and {simulated[1]:.3f} s ({shares[0]:+.1%}); "
        f"p95 {real[2]:.3f} s and {simulated[2]:.3f} s ({shares[1]:+.1%})."
    )
    hypothesis = f"{plane.capitalize()}: the hit rate is within 2 points, median and p95 time to first token within 15 %."
    return Claim(hypothesis, Verdict.SUPPORTED if is_close else Verdict.CONTRADICTED, because)


def _table(pairs: dict[str, list[Pair]]) -> Table:
    rows = []
    for plane, runs in pairs.items():
        for one, other in runs:
            for name, run in (("real", one), *(("simulated", each) for each in other)):
                found: Summary = summarized(run)
                numbers = (found.hit_rate, found.ttft_p50_s, found.ttft_p95_s, found.sojourn_p50_s, found.evenness_of_requests)
                rows.append((plane, str(run.seed), name, f"{found.served}/{found.requests}", *(f"{number:.3f}" for number in numbers)))
    columns = ("plane", "seed", "carried out", "served", "hit rate", "median TTFT, s", "p95 TTFT, s", "median answer, s", "Jain, requests")
    return Table("Each run", columns, tuple(rows))


def _figure(pairs: dict[str, list[Pair]]) -> Figure:
    charts = []
    for plane, runs in pairs.items():
        lines = []
        for name, chosen in (("real processes", 0), ("simulated", 1)):
            chosen_runs = [one for one, _ in runs] if chosen == 0 else [run for _, others in runs for run in others]
            first = [request.ttft_s for run in chosen_runs for request in run.requests if request.is_served]
            lines.append(Line(name, *distribution(first)))
        charts.append(
            Chart(
                f"{plane.capitalize()}: time to first token",
                "seconds",
                "share of requests at or below",
                tuple(lines),
                "log",
                is_stepped=True,
            )
        )
    return Figure("reality", "All requests of all seeds.", tuple(charts))
