"""Experiment 3, evenness: how evenly do the planes use their workers, over time and over workers?"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev, pvariance

from roost.sim.experiments.outcome import Carry, Chart, Claim, Figure, Line, Outcome, Table, distribution
from roost.sim.experiments.plan import CENTRAL, GOSSIP, Plan, Setup
from roost.sim.experiments.statistics import Interval, interval, judge, paired
from roost.sim.records import RunRecord, WorkerSample
from roost.sim.summary import jains_index, mean_by_worker, requests_by_worker

NUMBER, TITLE = 3, "Evenness"
QUESTION = "How evenly do the two planes use their workers?"
PLANES = (CENTRAL, GOSSIP)
WARM_UP_S = 10.0
FIELDS = (("queue_depth", "queue depth"), ("gpu_utilization", "GPU utilisation"))
MEASURES = (
    ("deviation_queue_depth", "SD over workers of queue depth", ".3f"),
    ("deviation_gpu_utilization", "SD over workers of GPU utilisation", ".3f"),
    ("variance_queue_depth", "variance of queue depth, all samples", ".3f"),
    ("variance_gpu_utilization", "variance of GPU utilisation, all samples", ".4f"),
    ("jain_gpu_utilization", "Jain's index of mean GPU utilisation", ".3f"),
    ("jain_requests", "Jain's index of requests served", ".3f"),
)


def plans(setup: Setup, seeds: Sequence[int]) -> tuple[Plan, ...]:
    """Everything that `conclude` asks for."""
    return tuple(Plan(plane, setup, seed) for seed in seeds for plane in PLANES)


def conclude(carry: Carry, setup: Setup, seeds: Sequence[int]) -> Outcome:
    """What the runs say."""
    found: dict[str, list[RunRecord]] = {plane: [carry(Plan(plane, setup, seed)) for seed in seeds] for plane in PLANES}
    measured = {plane: [measures_of(record) for record in records] for plane, records in found.items()}
    return Outcome(NUMBER, TITLE, QUESTION, _claims(measured), (_table(measured),), _figures(found), LIMITS, {"by_seed": measured})


LIMITS = (
    "The workers are alike and the load is steady; unlike workers and a flash crowd are not in this experiment.",
    "A worker without the popular models is rightly idle: a policy that loads every model everywhere scores better here and worse in 1.",
)


def measures_of(record: RunRecord) -> dict[str, float]:
    """Every measure of one run, after its warm-up."""
    samples = [sample for sample in record.samples if sample.at_s >= WARM_UP_S]
    measures: dict[str, float] = {}
    for name, _ in FIELDS:
        measures[f"deviation_{name}"] = fmean(_deviations(samples, name)) if samples else float("nan")
        values = [float(getattr(sample, name)) for sample in samples]
        measures[f"variance_{name}"] = pvariance(values) if values else float("nan")
    measures["jain_gpu_utilization"] = jains_index(list(mean_by_worker(samples, "gpu_utilization").values()))
    measures["jain_requests"] = jains_index(list(requests_by_worker(record).values()))
    return measures


def _deviations(samples: Sequence[WorkerSample], name: str) -> list[float]:
    """At each moment, the standard deviation over the workers."""
    moments: dict[float, list[float]] = {}
    for sample in samples:
        moments.setdefault(sample.at_s, []).append(float(getattr(sample, name)))
    return [pstdev(values) for values in moments.values()]


def _column(measured: dict[str, list[dict[str, float]]], plane: str, name: str) -> list[float]:
    return [each[name] for each in measured[plane]]


def _claims(measured: dict[str, list[dict[str, float]]]) -> tuple[Claim, ...]:
    def claim(hypothesis: str, name: str, what: str, spec: str, sign: int) -> Claim:
        central, gossip = (interval(_column(measured, plane, name)) for plane in PLANES)
        difference = paired(_column(measured, GOSSIP, name), _column(measured, CENTRAL, name))
        because = f"{what}: {central:{spec}} with a coordinator and {gossip:{spec}} by gossip; difference {difference:{spec}}."
        return Claim(hypothesis, judge(difference, expected_sign=sign), because)

    return (
        claim(
            "Workers are used less evenly at any moment where sidecars decide from views that are seconds old.",
            "deviation_gpu_utilization", "Standard deviation over workers of the GPU utilisation", ".3f", 1,
        ),
        claim(
            "Queues differ more between workers where sidecars decide.",
            "deviation_queue_depth", "Standard deviation over workers of the queue depth", ".3f", 1,
        ),
    )  # fmt: skip


def _table(measured: dict[str, list[dict[str, float]]]) -> Table:
    rows = []
    for name, title, spec in MEASURES:
        columns: list[Interval] = [interval(_column(measured, plane, name)) for plane in PLANES]
        columns.append(paired(_column(measured, GOSSIP, name), _column(measured, CENTRAL, name)))
        rows.append((title, *(format(each, spec) for each in columns)))
    return Table("Mean over seeds with its 95 % interval", ("measure", "central", "gossip", "gossip - central"), tuple(rows))


def _figures(found: dict[str, list[RunRecord]]) -> tuple[Figure, ...]:
    spread, sums = [], []
    for name, title in FIELDS:
        lines, bars = [], []
        for plane in PLANES:
            first = [sample for sample in found[plane][0].samples if sample.at_s >= WARM_UP_S]
            moments = sorted({sample.at_s for sample in first})
            lines.append(Line(plane, tuple(moments), tuple(_deviations(first, name))))
            pooled = [float(getattr(s, name)) for record in found[plane] for s in record.samples if s.at_s >= WARM_UP_S]
            values, shares = distribution(pooled)
            bars.append(Line(plane, values, shares))
        spread.append(Chart(f"{title}: spread over workers", "seconds of the run", "standard deviation over workers", tuple(lines)))
        sums.append(Chart(f"{title}: distribution", title, "share of samples at or below", tuple(bars), is_stepped=True))
    return (
        Figure("evenness-over-time", "Standard deviation over the workers at each moment of one run (the first seed).", tuple(spread)),
        Figure("evenness-distribution", "All workers, all moments, all seeds.", tuple(sums)),
    )
