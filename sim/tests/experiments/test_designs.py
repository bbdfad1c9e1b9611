"""The experiments themselves: what they ask for, what they conclude, what they write down."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from roost.sim.clients import Delays
from roost.sim.experiments import evenness, faults, performance, reality, simulated
from roost.sim.experiments.outcome import Outcome, distribution
from roost.sim.experiments.plan import CENTRAL, GOSSIP, HYBRID, Plan, Setup
from roost.sim.experiments.pool import carried_out
from roost.sim.experiments.report import write
from roost.sim.experiments.statistics import Verdict
from roost.sim.records import FAILED, HIT, RequestRecord, RunRecord, WorkerSample

SETUP = Setup(workers=3, models=6, rate=4.0, duration_s=8.0, slots=2)
PLANES = (CENTRAL, GOSSIP, HYBRID)


def made_up(plan: Plan) -> RunRecord:
    """A run in which gossip is a little worse in everything, and whoever asks a dead coordinator fails."""
    worse = 0.3 if plan.plane == GOSSIP else 0.0
    down = [fault for fault in plan.faults if fault.victim == faults.COORDINATOR and plan.plane == CENTRAL]
    requests, samples = [], []
    for number in range(600):
        at_s = number / 10
        is_lost = any(fault.at_s <= at_s < fault.at_s + fault.back_after_s for fault in down)
        ttft_s = 0.0 if is_lost else 0.2 + worse + (number * plan.seed % 7) / 100
        result = FAILED if is_lost else HIT if number % 10 > 3 * worse * 10 else "cold_start"
        requests.append(RequestRecord(number, at_s, "sim-01", "worker-1", "SERVE", result, ttft_s / 2, ttft_s, 2 * ttft_s, 1, 0.0, 0.0))
    for number in range(120):
        for worker in range(3):
            busy = (number + worker) % 3 * (1 + worse)
            samples.append(WorkerSample(number / 2, f"worker-{worker + 1}", int(busy * 2), int(busy), 4, busy / 4))
    return RunRecord(plan.plane, "made-up", plan.seed, 60.0, SETUP.worker_names, tuple(requests), tuple(samples))


def outcomes() -> list[Outcome]:
    seeds = (1, 2, 3)
    return [
        performance.conclude(made_up, SETUP, seeds),
        faults.conclude(made_up, SETUP, seeds, PLANES),
        evenness.conclude(made_up, SETUP, seeds),
    ]


def test_reality_is_as_simulated_only_where_hits_and_times_are_close_and_says_how_plans_differ() -> None:
    def live(plan: Plan) -> tuple[RunRecord, Delays]:
        return made_up(plan), Delays()

    def worse(plan: Plan, _delays: Delays, _chance: int) -> RunRecord:
        return made_up(replace(plan, plane=GOSSIP))

    told: list[str] = []
    outcome = reality.run(live, worse, SETUP, (1, 2, 3), told.append)
    central, gossip = outcome.claims
    assert (central.verdict, gossip.verdict) == (Verdict.CONTRADICTED, Verdict.SUPPORTED)
    assert "(0.0 points apart; real less simulated, plan by plan: 0.0 [0.0, 0.0])" in gossip.because
    assert len(told) == 12
    assert len(outcome.tables[0].rows) == 2 * 3 * (1 + reality.CHANCES)


def test_equal_seeds_ask_for_equal_requests_whatever_the_plane() -> None:
    one, other = Plan(CENTRAL, SETUP, 7), Plan(GOSSIP, SETUP, 7)
    assert one.asks() == other.asks()
    assert one.asks() != replace(one, seed=8).asks()
    counts = Counter(ask.model for ask in Plan(CENTRAL, replace(SETUP, rate=200.0), 7).asks())
    assert counts["sim-01"] > counts["sim-06"] > 0
    assert all(0 < ask.arrival_s < SETUP.duration_s for ask in one.asks())


def test_plans_are_everything_that_is_asked_for_when_concluding() -> None:
    seeds = (1, 2)
    asked: set[Plan] = set()

    def carry(plan: Plan) -> RunRecord:
        asked.add(plan)
        return made_up(plan)

    performance.conclude(carry, SETUP, seeds)
    assert asked == set(performance.plans(SETUP, seeds))
    asked.clear()
    faults.conclude(carry, SETUP, seeds, PLANES)
    assert asked == set(faults.plans(SETUP, seeds, PLANES))
    asked.clear()
    evenness.conclude(carry, SETUP, seeds)
    assert asked == set(evenness.plans(SETUP, seeds))


def test_verdicts_follow_from_the_runs() -> None:
    found = {claim.hypothesis: claim.verdict.value for outcome in outcomes() for claim in outcome.claims}
    assert found["A global view finds the model ready more often than local ones."] == "supported"
    assert found["Sidecars behind a coordinator save the requests that its death would cost."] == "supported"
    assert found["Workers are used less evenly at any moment where sidecars decide from views that are seconds old."] == "supported"
    worse = {
        plan: made_up(replace(plan, plane=GOSSIP if plan.plane == CENTRAL else CENTRAL)) for plan in performance.plans(SETUP, (1, 2, 3))
    }
    turned = performance.conclude(worse.__getitem__, SETUP, (1, 2, 3))
    assert turned.claims[0].verdict.value == "contradicted", "the planes' roles were exchanged"


def test_recovery_is_when_the_last_request_was_hurt() -> None:
    plan = faults.SCENARIOS[0].plan(SETUP, 1)
    measured = faults.measures_of(made_up(plan))
    assert measured["recovery_s"] == pytest.approx(faults.BACK_AFTER_S, abs=0.11)
    assert measured["success_rate_while_down"] == 0.0
    assert measured["failed"] == 100
    assert faults.measures_of(made_up(replace(plan, faults=())))["recovery_s"] == 0.0


@pytest.mark.slow
def test_a_report_has_every_claim_table_and_plot_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    for outcome in outcomes():
        reports = [write(outcome, SETUP, (1, 2, 3), "roost experiment all", "the simulator", tmp_path / name) for name in ("a", "b")]
        text = reports[0].read_text()
        assert all(claim.hypothesis in text and claim.because in text for claim in outcome.claims)
        for linked in re.findall(r"\]\(([^)]+)\)", text):
            assert (reports[0].parent / linked).stat().st_size > 0, linked
        first, second = ({path.name: path.read_bytes() for path in report.parent.iterdir()} for report in reports)
        assert first == second
        assert len(first) == 2 + len(outcome.tables) + 2 * len(outcome.figures)
        assert json.loads((reports[0].parent / "results.json").read_text())["seeds"] == [1, 2, 3]


def test_a_distribution_rises_from_the_smallest_to_the_largest() -> None:
    values, shares = distribution([3.0, 1.0, 2.0], points=5)
    assert (values[0], values[-1]) == (1.0, 3.0)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert list(values) == sorted(values)
    assert distribution([]) == ((), ())


@pytest.mark.parametrize("plane", [CENTRAL, GOSSIP])
def test_the_same_plan_gives_the_same_record(plane: str) -> None:
    plan = Plan(plane, SETUP, 3)
    one, other = simulated.carry(plan), simulated.carry(plan)
    assert one.requests == other.requests
    assert one.samples == other.samples
    assert len(one.requests) == len(plan.asks())
    assert all(request.is_served for request in one.requests)


@pytest.mark.slow
def test_side_by_side_is_the_same_as_one_after_the_other() -> None:
    plans = [Plan(CENTRAL, SETUP, seed) for seed in (1, 2, 3)]
    heard: list[int] = []
    assert carried_out(plans, 2, lambda count, _: heard.append(count)) == carried_out(plans, 1, lambda *_: None)
    assert heard == [1, 2, 3]


@pytest.mark.slow
def test_a_dead_coordinator_costs_time_and_no_requests_and_sidecars_behind_it_save_the_time() -> None:
    setup = replace(SETUP, rate=10.0, duration_s=40.0)
    central, hybrid = (
        faults.measures_of(simulated.carry(faults.Scenario("x", plane, faults.COORDINATOR, "x").plan(setup, 1)))
        for plane in (CENTRAL, HYBRID)
    )
    assert central["success_rate_while_down"] == hybrid["success_rate_while_down"] == 1.0, "who cannot reach a scheduler asks again"
    assert hybrid["ttft_p50_while_down_s"] < central["ttft_p50_while_down_s"]
