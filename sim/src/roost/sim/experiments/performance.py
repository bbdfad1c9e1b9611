"""Experiment 1, performance: hits and waits of both planes, how they suffer from old news, and how far each of them reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from roost.sim.experiments.counted import summarized
from roost.sim.experiments.outcome import Carry, Chart, Claim, Figure, Line, Outcome, Table, distribution
from roost.sim.experiments.plan import CENTRAL, GOSSIP, Plan, Setup
from roost.sim.experiments.statistics import Interval, Verdict, interval, judge, paired
from roost.sim.records import RunRecord
from roost.sim.summary import Summary

NUMBER, TITLE = 1, "Performance"
QUESTION = "Which plane serves more requests warm, and sooner? When does the global view stop paying?"
PLANES = (CENTRAL, GOSSIP)
TOLD_EVERY_S = {CENTRAL: (0.0, 0.5, 1.0, 2.0, 5.0, 10.0), GOSSIP: (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)}
SHORT_S = 30.0  # of the sweeps
SIZES = (5, 10, 30, 100, 300, 1000)
SIZE_RUN_S = {5: 60.0, 10: 60.0, 30: 30.0, 100: 15.0, 300: 8.0, 1000: 5.0}  # about as many requests at each size, as far as time allows
MEASURES = (
    ("hit_rate", "cache hit rate", ".3f"),
    ("ttft_p50_s", "time to first token, median, s", ".3f"),
    ("ttft_p95_s", "time to first token, p95, s", ".3f"),
    ("ttft_p99_s", "time to first token, p99, s", ".3f"),
    ("sojourn_p50_s", "whole answer, median, s", ".3f"),
    ("throughput_per_s", "requests served, 1/s", ".2f"),
)
Sweep = dict[str, dict[float, list[Summary]]]  # plane -> value -> one a seed


def plans(setup: Setup, seeds: Sequence[int], *, has_sweeps: bool = True) -> tuple[Plan, ...]:
    """Everything that `conclude` asks for. `has_sweeps`: also over the age of news and the size of the cluster."""
    wanted = [Plan(plane, setup, seed) for seed in seeds for plane in PLANES]
    if has_sweeps:
        wanted += [_aged(setup, plane, every_s, seed) for plane in PLANES for every_s in TOLD_EVERY_S[plane] for seed in seeds]
        wanted += [Plan(plane, scaled(setup, size), seed) for size in SIZES for plane in PLANES for seed in _some(seeds, size)]
    return tuple(wanted)


def conclude(carry: Carry, setup: Setup, seeds: Sequence[int], *, has_sweeps: bool = True) -> Outcome:
    """What the runs say."""
    found: dict[str, list[RunRecord]] = {plane: [carry(Plan(plane, setup, seed)) for seed in seeds] for plane in PLANES}
    base = {plane: [summarized(record) for record in records] for plane, records in found.items()}
    claims, tables, figures = list(_base_claims(base)), [_base_table(base)], [_base_figure(found)]
    measured: dict[str, object] = {"base": base}
    if has_sweeps:
        ages, sizes = _sweep_ages(carry, setup, seeds), _sweep_sizes(carry, setup, seeds)
        measured |= {"told_every_s": ages, "workers": sizes}
        tables += [_sweep_table(ages, "told every, s", _age_name), _sweep_table(sizes, "workers", lambda _, size: f"{size:g}")]
        figures += [_sweep_figure("staleness", "News that comes more rarely", ages, "seconds between news", is_age=True)]
        figures += [_sweep_figure("sizes", "Clusters that grow, with their load and their models", sizes, "workers", is_age=False)]
        claims += [_staleness_claim(ages, "hit_rate", "hits", -1), _staleness_claim(ages, "ttft_p95_s", "waits at the tail", 1)]
        claims += [_size_claim(sizes)]
    return Outcome(NUMBER, TITLE, QUESTION, tuple(claims), tuple(tables), tuple(figures), LIMITS, measured)


LIMITS = (
    "All requests are alike in length and come at a steady mean rate; real traces are replayed by `roost simulate --trace`.",
    "What the planes cost is not in these numbers: a coordinator needs a core (make bench), sidecars pay in packets (docs/gossip.md).",
    "Larger clusters have shorter runs, so that the cold starts of an empty cluster weigh more: compare planes at one size, not sizes.",
)


def scaled(setup: Setup, workers: int) -> Setup:
    """The same load and the same models for each worker."""
    share = workers / setup.workers
    models = max(2, round(setup.models * share))
    return replace(setup, workers=workers, models=models, rate=setup.rate * share, duration_s=SIZE_RUN_S[workers])


def _aged(setup: Setup, plane: str, every_s: float, seed: int) -> Plan:
    return Plan(plane, replace(setup, duration_s=SHORT_S), seed, told_every_s=every_s)


def _some(seeds: Sequence[int], size: int) -> Sequence[int]:
    return seeds if size <= 100 else seeds[:3]


def _sweep_ages(carry: Carry, setup: Setup, seeds: Sequence[int]) -> Sweep:
    return {
        plane: {every_s: [summarized(carry(_aged(setup, plane, every_s, seed))) for seed in seeds] for every_s in TOLD_EVERY_S[plane]}
        for plane in PLANES
    }


def _sweep_sizes(carry: Carry, setup: Setup, seeds: Sequence[int]) -> Sweep:
    def at(plane: str, size: int) -> list[Summary]:
        return [summarized(carry(Plan(plane, scaled(setup, size), seed))) for seed in _some(seeds, size)]

    return {plane: {float(size): at(plane, size) for size in SIZES} for plane in PLANES}


def _of(summaries: Sequence[Summary], name: str) -> list[float]:
    return [float(getattr(summary, name)) for summary in summaries]


def _base_claims(base: dict[str, list[Summary]]) -> tuple[Claim, ...]:
    def claim(hypothesis: str, name: str, what: str, spec: str, sign: int) -> Claim:
        central, gossip = (_of(base[plane], name) for plane in PLANES)
        difference = paired(central, gossip)
        because = (
            f"{what}: {interval(central):{spec}} with a coordinator, {interval(gossip):{spec}} by gossip; difference {difference:{spec}}."
        )
        return Claim(hypothesis, judge(difference, expected_sign=sign), because)

    return (
        claim("A global view finds the model ready more often than local ones.", "hit_rate", "Hit rate", ".3f", 1),
        claim("A global view gives a shorter wait at the tail.", "ttft_p95_s", "p95 time to first token in seconds", ".3f", -1),
        claim("For the median request the plane matters little, and if so the global view wins.", "ttft_p50_s",
              "Median time to first token in seconds", ".3f", -1),
    )  # fmt: skip


def _base_table(base: dict[str, list[Summary]]) -> Table:
    rows = []
    for name, title, spec in MEASURES:
        central, gossip = (_of(base[plane], name) for plane in PLANES)
        shown: list[Interval] = [interval(central), interval(gossip), paired(gossip, central)]
        rows.append((title, *(format(each, spec) for each in shown)))
    return Table(
        "Both planes, same requests; means over seeds with 95 % intervals",
        ("measure", "central", "gossip", "gossip - central"),
        tuple(rows),
    )


def _base_figure(found: dict[str, list[RunRecord]]) -> Figure:
    first, whole = [], []
    for plane in PLANES:
        served = [request for record in found[plane] for request in record.requests if request.is_served]
        first.append(Line(plane, *distribution([request.ttft_s for request in served])))
        whole.append(Line(plane, *distribution([request.sojourn_s for request in served])))
    return Figure(
        "latency",
        "All requests of all seeds.",
        (
            Chart("Time to first token", "seconds", "share of requests at or below", tuple(first), x_scale="log", is_stepped=True),
            Chart("Whole answer", "seconds", "share of requests at or below", tuple(whole), x_scale="log", is_stepped=True),
        ),
    )


def _age_name(plane: str, every_s: float) -> str:
    usual = "on change, ≤ 20/s" if plane == CENTRAL else "every 0.2 s"
    return f"as the services do ({usual})" if every_s == 0 else f"{every_s:g}"


def _sweep_table(sweep: Sweep, what: str, name_of: Callable[[str, float], str]) -> Table:
    rows = [
        (plane, name_of(plane, value), f"{interval(_of(summaries, 'hit_rate')):.3f}", f"{interval(_of(summaries, 'ttft_p50_s')):.3f}",
         f"{interval(_of(summaries, 'ttft_p95_s')):.3f}")
        for plane in PLANES
        for value, summaries in sweep[plane].items()
    ]  # fmt: skip
    return Table(f"By {what}", ("plane", what, "hit rate", "median TTFT, s", "p95 TTFT, s"), tuple(rows))


def _sweep_figure(name: str, caption: str, sweep: Sweep, x_label: str, *, is_age: bool) -> Figure:
    charts = []
    for measure, title, label in (("hit_rate", "Cache hit rate", "share"), ("ttft_p95_s", "Time to first token, p95", "seconds")):
        lines = []
        for plane in PLANES:
            usual_s = 0.05 if plane == CENTRAL else 0.2
            xs = tuple((value or usual_s) if is_age else value for value in sweep[plane])
            intervals = [interval(_of(summaries, measure)) for summaries in sweep[plane].values()]
            lines.append(Line(plane, xs, tuple(each.mean for each in intervals), tuple(each.low for each in intervals),
                              tuple(each.high for each in intervals)))  # fmt: skip
        charts.append(Chart(title, x_label, label, tuple(lines), x_scale="log"))
    return Figure(name, f"{caption}. Bands are 95 % intervals over seeds.", tuple(charts))


def _staleness_claim(ages: Sweep, name: str, what: str, worse_sign: int) -> Claim:
    """Where the coordinator's lead over gossip at its own pace ends, if it does. `worse_sign`: of the difference where it lags."""
    fresh = _of(ages[GOSSIP][0.0], name)
    leads = {every_s: paired(_of(summaries, name), fresh) for every_s, summaries in ages[CENTRAL].items()}
    lost_at = [every_s for every_s, lead in leads.items() if judge(lead, expected_sign=worse_sign) is Verdict.SUPPORTED]
    if not lost_at:
        found, verdict = "at no interval that was tried", Verdict.OPEN
    elif min(lost_at) > 0:
        found, verdict = f"when it hears every {min(lost_at):g} s or more rarely", Verdict.SUPPORTED
    else:
        found, verdict = "even with the freshest news, which therefore are not the reason", Verdict.CONTRADICTED
    shown = "; ".join(f"{f'{every_s:g} s' if every_s else 'fresh'}: {lead:+.3f}" for every_s, lead in leads.items())
    because = f"A coordinator does worse than gossip at its own pace {found} (central minus gossip, by interval: {shown})."
    return Claim(f"The global view stops paying in {what} when its news are old enough.", verdict, because)


def _size_claim(sizes: Sweep) -> Claim:
    leads = {size: paired(_of(sizes[CENTRAL][size], "hit_rate"), _of(sizes[GOSSIP][size], "hit_rate")) for size in sizes[CENTRAL]}
    small, large = leads[min(leads)], leads[max(leads)]
    grows = large.count > 1 and small.count > 1 and large.low > small.high
    shrinks = large.count > 1 and small.count > 1 and large.high < small.low
    verdict = Verdict.SUPPORTED if grows else Verdict.CONTRADICTED if shrinks else Verdict.OPEN
    shown = "; ".join(f"{size:g}: {lead:+.3f}" for size, lead in leads.items())
    return Claim(
        "The lead of the global view in hits grows with the cluster.", verdict, f"Hit rate, central minus gossip, by workers: {shown}."
    )
