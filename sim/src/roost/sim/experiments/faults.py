"""Experiment 2, fault tolerance: what do clients see when the one who decides dies, or one of the many who do?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from roost.sim.experiments.outcome import Carry, Chart, Claim, Figure, Line, Outcome, Table
from roost.sim.experiments.plan import CENTRAL, GOSSIP, HYBRID, Fault, Plan, Setup
from roost.sim.experiments.statistics import at_most, interval, judge, paired
from roost.sim.records import RunRecord
from roost.sim.summary import quantile, success_rate

NUMBER, TITLE = 2, "Fault tolerance"
QUESTION = "The one who decides dies, or one of many who do: what do clients see, and for how long?"
AT_S, BACK_AFTER_S = 20.0, 10.0
COORDINATOR = "coordinator"
BIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who is killed in which plane."""

    name: str
    plane: str
    victim: str  # empty: a worker that is drawn by the seed
    title: str

    def plan(self, setup: Setup, seed: int) -> Plan:
        victim = self.victim or setup.worker_names[seed % setup.workers]
        return Plan(self.plane, setup, seed, (Fault(AT_S, victim, BACK_AFTER_S),))


SCENARIOS = (
    Scenario("coordinator", CENTRAL, COORDINATOR, "central, the coordinator dies"),
    Scenario("worker", CENTRAL, "", "central, a worker dies"),
    Scenario("node", GOSSIP, "", "gossip, a worker and its sidecar die"),
    Scenario("hybrid", HYBRID, COORDINATOR, "hybrid, the coordinator dies"),
)


def plans(setup: Setup, seeds: Sequence[int], planes: Sequence[str]) -> tuple[Plan, ...]:
    """Everything that `conclude` asks for. `planes`: those that the carrier can run."""
    return tuple(scenario.plan(setup, seed) for seed in seeds for scenario in SCENARIOS if scenario.plane in planes)


def conclude(carry: Carry, setup: Setup, seeds: Sequence[int], planes: Sequence[str]) -> Outcome:
    """What the runs say."""
    scenarios = tuple(scenario for scenario in SCENARIOS if scenario.plane in planes)
    found = {scenario.name: [carry(scenario.plan(setup, seed)) for seed in seeds] for scenario in scenarios}
    measured = {name: [measures_of(record) for record in records] for name, records in found.items()}
    return Outcome(
        NUMBER, TITLE, QUESTION, _claims(measured), (_table(scenarios, measured, found),), (_figure(scenarios, found),), LIMITS,
        {"killed_at_s": AT_S, "back_after_s": BACK_AFTER_S, "by_seed": measured},
    )  # fmt: skip


LIMITS = (
    "Whoever dies is started anew after ten seconds, as a supervisor would do it; without that a cluster with one coordinator stays down.",
    "A request whose worker dies after its first token is lost: resuming it elsewhere is not built yet, and both planes pay for it alike.",
    "Networks are not split in this experiment; docs/gossip.md has what sidecars do then.",
)


def measures_of(record: RunRecord) -> dict[str, float]:
    """What clients saw of one run. Recovery is the time from the kill to the arrival of the last request that fared worse than any before:
    it failed, or waited longer for its first token than the slowest of a hundred did before the kill. 0.0 if none did.
    """
    before = [request.ttft_s for request in record.requests if request.is_served and request.arrival_s + request.sojourn_s < AT_S]
    usual_s = quantile(before, 0.99) if before else 0.0
    after = [request for request in record.requests if request.arrival_s >= AT_S]
    hurt = [request for request in record.requests if not request.is_served or (request.arrival_s >= AT_S and request.ttft_s > 2 * usual_s)]
    during = [request for request in after if request.arrival_s < AT_S + BACK_AFTER_S]
    served = [request.ttft_s for request in during if request.is_served]
    return {
        "success_rate": success_rate(record.requests),
        "success_rate_while_down": success_rate(during),
        "failed": float(sum(not request.is_served for request in record.requests)),
        "recovery_s": max((request.arrival_s - AT_S for request in hurt if request.arrival_s >= AT_S), default=0.0),
        "ttft_p50_while_down_s": quantile(served, 0.5),
        "ttft_p99_while_down_s": quantile(served, 0.99),
        "retried": float(sum(request.attempts > 1 for request in after)),
    }


def _values(measured: dict[str, list[dict[str, float]]], scenario: str, name: str) -> list[float]:
    return [each[name] for each in measured[scenario]]


def _claims(measured: dict[str, list[dict[str, float]]]) -> tuple[Claim, ...]:
    claims = []
    central, gossip = (_values(measured, name, "success_rate_while_down") for name in ("coordinator", "node"))
    difference = paired(gossip, central)
    claims.append(
        Claim(
            "While the dead one is away, more requests succeed by gossip (one node of many is dead) than with a coordinator (it is).",
            judge(difference, expected_sign=1),
            f"Requests that arrived in those {BACK_AFTER_S:g} s and were served: {interval(central):.3f} with a coordinator, "
            f"{interval(gossip):.3f} by gossip; difference {difference:.3f}.",
        )
    )
    recovery = interval(_values(measured, "node", "recovery_s"))
    claims.append(
        Claim(
            "By gossip clients are back to what they are used to within 6 s of a node's death, which is what its suspicion takes.",
            at_most(recovery, 6.0),
            f"Recovery took {recovery:.1f} s.",
        )
    )
    if "hybrid" in measured:
        hybrid = _values(measured, "hybrid", "success_rate_while_down")
        gain = paired(hybrid, central)
        claims.append(
            Claim(
                "Sidecars behind a coordinator save the requests that its death would cost.",
                judge(gain, expected_sign=1),
                f"Served while it was away: {interval(hybrid):.3f} with sidecars behind it, {interval(central):.3f} without; "
                f"difference {gain:.3f}.",
            )
        )
    return tuple(claims)


def _table(scenarios: Sequence[Scenario], measured: dict[str, list[dict[str, float]]], found: dict[str, list[RunRecord]]) -> Table:
    rows = []
    for scenario in scenarios:
        name = scenario.name
        results = Counter(request.result for record in found[name] for request in record.requests)
        rows.append(
            (
                scenario.title,
                f"{interval(_values(measured, name, 'success_rate')):.4f}",
                f"{interval(_values(measured, name, 'success_rate_while_down')):.3f}",
                f"{interval(_values(measured, name, 'recovery_s')):.1f}",
                f"{interval(_values(measured, name, 'ttft_p99_while_down_s')):.2f}",
                f"{interval(_values(measured, name, 'retried')):.1f}",
                " ".join(f"{result} {count}" for result, count in sorted(results.items())),
            )
        )
    columns = ("scenario", "served", "served while down", "recovery, s", "p99 TTFT while down, s", "retried", "all seeds")
    return Table(f"Killed at {AT_S:g} s, started anew {BACK_AFTER_S:g} s later; means over seeds with 95 % intervals", columns, tuple(rows))


def _figure(scenarios: Sequence[Scenario], found: dict[str, list[RunRecord]]) -> Figure:
    served, waits = [], []
    for scenario in scenarios:
        bins: dict[int, list[tuple[bool, float]]] = {}
        for record in found[scenario.name]:
            for request in record.requests:
                bins.setdefault(int(request.arrival_s / BIN_S), []).append((request.is_served, request.ttft_s))
        xs = tuple((number + 0.5) * BIN_S for number in sorted(bins))
        shares = tuple(sum(is_served for is_served, _ in bins[number]) / len(bins[number]) for number in sorted(bins))
        medians = tuple(quantile([ttft for is_served, ttft in bins[number] if is_served], 0.5) for number in sorted(bins))
        served.append(Line(scenario.title, xs, shares))
        waits.append(Line(scenario.title, xs, medians))
    marks = ((AT_S, "killed"), (AT_S + BACK_AFTER_S, "back"))
    return Figure(
        "faults",
        "By second of arrival, all seeds together.",
        (
            Chart("Requests served in the end", "arrival, seconds of the run", "share", tuple(served), marks=marks),
            Chart(
                "Time to first token of those", "arrival, seconds of the run", "median, seconds", tuple(waits), y_scale="log", marks=marks
            ),
        ),
    )
