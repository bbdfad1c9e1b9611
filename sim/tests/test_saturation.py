"""What holds where there is more to do than there is room: priorities and their aging, shared loads, and that whoever may wait is served.

Whole clusters in virtual time: the decider's lines, the reports and the workers' queues.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.sim import Reports, Run, Simulation, exponential, flash_crowd, poisson, zipf
from roost.sim.records import RequestRecord
from roost.sim.workload import Ask

SERVICE_S = 0.1
WORKERS, SLOTS = 2, 2
AGING_S = 10.0  # of the decider's lines and of a worker's queue
LOAD_S = 0.5

by_every_decider = pytest.mark.parametrize(
    ("policy", "reports"),
    [("expected-wait", Reports()), ("expected-wait", None), ("affinity", Reports())],
    ids=["waiting in the decider", "waiting in a decider that knows everything", "waiting at the workers"],
)


def served(arrivals: list[tuple[float, int]], priority: int, policy: str, reports: Reports | None, **fields: float) -> list[RequestRecord]:
    """Those of this priority, by arrival. One model that is everywhere; each arrival is a time and a priority."""
    shape = {"workers": WORKERS, "slots": SLOTS, "service_s": SERVICE_S} | fields
    arrivals = sorted(arrivals)
    trace = [Ask(at_s, 0, service_s=shape["service_s"], priority=its) for at_s, its in arrivals]
    workers, slots = int(shape["workers"]), int(shape["slots"])
    run = Simulation(workers=workers, slots=slots, service="trace", trace=trace, policy=policy, reports=reports, may_queue=True).run()
    records = run.record().requests
    assert all(record.is_served for record in records)
    return [record for record, (_, its) in zip(records, arrivals, strict=True) if its == priority]


@by_every_decider
@settings(max_examples=10, deadline=None, derandomize=True)
@given(highest=st.lists(st.floats(0.05, 3.0), min_size=1, max_size=40), lowest=st.integers(150, 300))
def test_the_highest_priority_waits_for_what_runs_and_for_its_own_kind(
    policy: str, reports: Reports | None, highest: list[float], lowest: int
) -> None:
    arrivals = [(0.0, 0)] * lowest + [(at_s, 9) for at_s in highest]
    records = served(arrivals, 9, policy, reports)
    for number, record in enumerate(records):
        before = sum(other.arrival_s + other.wait_s > record.arrival_s for other in records[:number])
        report_s = 0.0 if reports is None else 0.05 * (1 + before)  # the decider knows of a slot that much later, once for each of its kind
        assert record.wait_s <= SERVICE_S * (1 + before // SLOTS) + report_s


@by_every_decider
def test_the_lowest_priority_is_served_within_the_aging_bound_though_the_highest_fills_every_slot(
    policy: str, reports: Reports | None
) -> None:
    each_s, lowest = 0.25, 20
    coming = [(each_s / 2 * number, 9) for number in range(1000)]  # as many as two slots can serve, for 125 s
    records = served([(1.0, 0)] * lowest + coming, 0, policy, reports, slots=1, service_s=each_s)
    at_nine_s = 9 * AGING_S
    assert len(records) == lowest
    assert max(record.wait_s for record in records) <= at_nine_s + (lowest + 1) * each_s
    assert max(record.wait_s for record in records) > AGING_S, "else the highest priority did not fill every slot"


def test_a_thousand_requests_at_once_for_one_absent_model_are_one_load_and_joins() -> None:
    measured = Ask(0.0, 1, service_s=0.02)
    counts, run = burst([measured, *[Ask(3.0, 0, service_s=0.02)] * 1000], workers=3, slots=64, models=2)
    assert counts == {"cold_start": 2, "join": 999}
    assert run.totals["loads"] == 2, "one of them for the model that was there before"


@pytest.mark.parametrize("each", [1, 4])
def test_fifty_absent_models_at_once_are_one_load_each_and_nobody_is_refused(each: int) -> None:
    asks = [Ask(0.0, model, service_s=0.02) for model in range(50)] * each
    counts, run = burst(asks, workers=4, slots=2, models=50)
    assert counts == Counter(cold_start=50, join=50 * (each - 1))
    assert run.totals["loads"] == 50
    places, turns = 8, 50 / 8
    assert max(run.waits) <= 2 * turns * LOAD_S, f"{places} places load at once"


def burst(asks: list[Ask], *, workers: int, slots: int, models: int) -> tuple[Counter[str], Run]:
    """What each of them found, on workers with room for two models. Each was decided once, and none had to ask again."""
    simulation = Simulation(
        workers=workers,
        slots=slots,
        models=models,
        cache_models=2,
        warm=False,
        load=LOAD_S,
        service="trace",
        trace=asks,
        policy="expected-wait",
        reports=Reports(),
        may_queue=True,
    )
    run = simulation.run()
    records = run.record().requests
    assert {record.attempts for record in records} == {1}
    return Counter(record.result for record in records), run


def _first_tokens(simulation: Simulation) -> list[tuple[float, float]]:
    """When requests came, and how long their first token took."""
    records = simulation.run(duration_s=120.0).record().requests
    assert all(record.is_served for record in records)
    return [(record.arrival_s, record.ttft_s) for record in records]


def test_where_models_outnumber_spaces_the_line_goes_with_its_load_and_nothing_collapses() -> None:
    load_s = 1.69
    simulation = Simulation(
        workers=6, slots=1, models=8, cache_models=1, popularity=zipf(8, 0.6), reports=Reports(), may_queue=True, warm=False,
        arrivals=poisson(19.6), service=exponential(0.11), load=load_s, seed=1,
    )  # fmt: skip
    waits = sorted(wait_s for _, wait_s in _first_tokens(simulation))
    assert waits[int(0.95 * len(waits))] <= 4 * load_s


def test_after_a_burst_of_twice_the_rate_a_cluster_with_too_many_models_is_back() -> None:
    simulation = Simulation(
        workers=5, slots=1, models=40, cache_models=4, popularity=zipf(40, 0.6), reports=Reports(), may_queue=True, warm=False,
        arrivals=flash_crowd(40.0, 40.0, at_s=60.0, for_s=10.0, model=None), service=exponential(0.05), load=3.0, seed=1,
    )  # fmt: skip
    told = _first_tokens(simulation)
    before = [wait_s for arrival_s, wait_s in told if 30 <= arrival_s < 60]
    after = [wait_s for arrival_s, wait_s in told if 90 <= arrival_s < 120]
    assert sum(after) / len(after) <= 1.25 * sum(before) / len(before)
