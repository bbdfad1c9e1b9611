"""The parts: time, chance, arrivals, numbers of a run."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice, takewhile
from random import Random
from statistics import fmean, pstdev

import pytest

from roost.sim.ageing import HEARS_AFTER_S, NOTICES_AFTER_S, Ageing
from roost.sim.agenda import Agenda
from roost.sim.arrivals import Arrivals, diurnal, flash_crowd, gamma, poisson
from roost.sim.clients import Delays
from roost.sim.distributions import Distribution, deterministic, exponential, gamma_time, lognormal, uniform_between
from roost.sim.links import Reports
from roost.sim.popularity import drifting, shares, zipf
from roost.sim.records import RequestRecord, RunRecord, WorkerSample
from roost.sim.simulation import Simulation
from roost.sim.summary import evenness, hit_rate, jains_index, mean_by_worker, quantile, summarize, throughput
from roost.sim.workload import Ask


def request(number: int, result: str = "hit", *, ttft_s: float = 0.1, sojourn_s: float = 1.0, worker: str = "a") -> RequestRecord:
    return RequestRecord(number, float(number), "m", worker, "SERVE", result, 0.0, ttft_s, sojourn_s, 1, 0.0, 0.0)


def run_of(*requests: RequestRecord, samples: tuple[WorkerSample, ...] = ()) -> RunRecord:
    return RunRecord("central", "p", 1, 10.0, ("a", "b"), requests, samples)


def test_things_happen_in_order_of_time_and_arrivals_come_last() -> None:
    agenda, seen = Agenda(), list[str]()
    agenda.arrival(1.0, seen.append, "arrival")
    agenda.at(1.0, seen.append, "second")
    agenda.at(1.0, seen.append, "third")
    agenda.at(0.5, seen.append, "first")
    agenda.run_until(2.0)
    assert seen == ["first", "second", "third", "arrival"]
    assert agenda.handled == 4


def test_what_is_put_down_for_the_past_happens_now() -> None:
    agenda, seen = Agenda(), list[float]()
    agenda.at(3.0, lambda _: agenda.at(1.0, lambda _: seen.append(agenda.now), None), None)
    agenda.run_until(5.0)
    assert seen == [3.0]


@pytest.mark.parametrize(
    "drawn",
    [exponential(2.0), gamma_time(3.0, 0.5), gamma_time(1.0, 2.0), lognormal(100.0, 1.0), uniform_between(1.0, 5.0), deterministic(4.0)],
)
def test_a_distribution_has_the_mean_and_cv_that_it_says(drawn: Distribution) -> None:
    rng = Random(1)
    values = [drawn.sample(rng) for _ in range(60_000)]
    assert fmean(values) == pytest.approx(drawn.mean, rel=0.03)
    assert pstdev(values) / fmean(values) == pytest.approx(drawn.cv, rel=0.06, abs=1e-9)


@pytest.mark.parametrize(
    ("arrivals", "rate"), [(poisson(5.0), 5.0), (gamma(4.0, cv=2.0), 4.0), (diurnal(6.0, swing=0.5, period_s=10.0), 6.0)]
)
def test_arrivals_come_at_their_rate(arrivals: Arrivals, rate: float) -> None:
    times = list(islice((arrival.at_s for arrival in arrivals.times(Random(2))), 20_000))
    assert len(times) / times[-1] == pytest.approx(rate, rel=0.04)
    assert times == sorted(times)


def test_a_day_has_its_peak_in_its_first_half() -> None:
    times = takewhile(lambda at: at < 1_000.0, (arrival.at_s for arrival in diurnal(10.0, swing=1.0, period_s=1_000.0).times(Random(3))))
    halves = Counter(at < 500.0 for at in times)
    assert halves[True] > 4 * halves[False]


def test_a_flash_crowd_wants_one_model_while_it_lasts() -> None:
    crowd = flash_crowd(5.0, 50.0, at_s=100.0, for_s=20.0, model=3)
    arrivals = list(takewhile(lambda arrival: arrival.at_s < 200.0, crowd.times(Random(4))))
    named = [arrival.at_s for arrival in arrivals if arrival.model == 3]
    assert len(named) == pytest.approx(1_000, rel=0.1)
    assert all(100.0 <= at < 120.0 for at in named)
    assert sum(arrival.model is None for arrival in arrivals) == pytest.approx(1_000, rel=0.1)


def test_zipf_asks_for_the_first_model_twice_as_often_as_for_the_second() -> None:
    popularity = zipf(20, 1.0)
    assert popularity.shares[0] == pytest.approx(2 * popularity.shares[1])
    pick = popularity.picker(Random(5))
    drawn = Counter(pick() for _ in range(50_000))
    assert drawn[0] / 50_000 == pytest.approx(popularity.shares[0], rel=0.03)
    assert drawn[19] / 50_000 == pytest.approx(popularity.shares[19], rel=0.15)


def test_bad_parameters_are_named() -> None:
    for bad in (
        lambda: exponential(0.0),
        lambda: gamma_time(1.0, 0.0),
        lambda: deterministic(-1.0),
        lambda: poisson(-2.0),
        lambda: gamma(1.0, cv=-1.0),
        lambda: diurnal(1.0, swing=2.0),
        lambda: zipf(0),
        lambda: shares([0.0, 0.0]),
    ):
        with pytest.raises(ValueError, match="must be"):
            bad()


def test_news_takes_longer_the_more_there_are_to_hear_it() -> None:
    def mean_s(nodes: int) -> float:
        ageing, rng = Ageing(nodes), Random(6)
        return fmean(ageing.hears_after_s(rng) for _ in range(4_000))

    means = [mean_s(nodes) for nodes in (5, 20, 60, 150, 1_000)]
    assert means == sorted(means)
    assert means[-1] < 1.0
    for table in (HEARS_AFTER_S, NOTICES_AFTER_S):
        assert all(list(quantiles) == sorted(quantiles) for quantiles in table.values())


def test_quantiles_lie_between_neighbours() -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert quantile([7.0], 0.99) == 7.0
    assert math.isnan(quantile([], 0.5))
    with pytest.raises(ValueError, match="share must be"):
        quantile([1.0], 1.5)


def test_jains_index_is_one_for_equals_and_one_nth_for_one_who_has_all() -> None:
    assert jains_index([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert jains_index([5.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jains_index([0.0, 0.0]) == 1.0


def test_a_summary_counts_hits_among_the_served_and_time_of_the_served() -> None:
    run = run_of(
        request(0), request(1, "cold_start", ttft_s=0.3, worker="b"), request(2, "failed", ttft_s=0.0), request(3, sojourn_s=100.0)
    )
    summary = summarize(run)
    assert (summary.requests, summary.served) == (4, 3)
    assert summary.hit_rate == hit_rate(run.requests) == pytest.approx(2 / 3)
    assert summary.success_rate == pytest.approx(0.75)
    assert summary.ttft_p50_s == pytest.approx(0.1)
    assert throughput(run) == pytest.approx(0.2)
    assert summary.evenness_of_requests == pytest.approx(jains_index([2.0, 1.0]))


def test_evenness_is_over_workers_of_their_means_over_time() -> None:
    samples = tuple(WorkerSample(float(at), worker, depth, 0, 1, 0.5) for at in (1, 2) for worker, depth in (("a", at), ("b", 3 * at)))
    assert mean_by_worker(samples, "queue_depth") == {"a": 1.5, "b": 4.5}
    found = evenness(mean_by_worker(samples, "queue_depth"))
    assert (found.mean, found.standard_deviation) == (3.0, 1.5)


def test_drifting_popularity_hands_every_share_on() -> None:
    popularity = drifting(zipf(4, 1.0), 10.0)
    assert [popularity.at(0, now) for now in (0.0, 9.9, 10.0, 25.0, 40.0)] == [0, 0, 3, 2, 0]
    assert zipf(4, 1.0).at(2, 1e6) == 2
    with pytest.raises(ValueError, match="every_s must be more than 0"):
        drifting(zipf(4, 1.0), 0.0)


def test_drawn_delays_differ_by_seed_over_the_same_trace() -> None:
    trace = [Ask(0.01 * number, 0, service_s=0.05) for number in range(50)]

    def waits(seed: int, spread: float) -> list[float]:
        delays = Delays(ask_s=0.01, send_s=0.01, spread=spread)
        return list(Simulation(workers=2, trace=trace, service="trace", delays=delays, seed=seed, reports=Reports()).run().waits)

    assert waits(1, 0.5) == waits(1, 0.5)
    assert waits(1, 0.5) != waits(2, 0.5)
    with pytest.raises(ValueError, match="spread must be 0-1"):
        Delays(spread=1.5)
