"""What is drawn for the tournament, how it is played, and how it is judged."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from roost.sim.tournament.judging import Comparison, compared, failed_more, mean_of, tallied
from roost.sim.tournament.playing import Game, Outcome, play
from roost.sim.tournament.regimes import BURST, DRIFTING, HIGHEST_RATE_PER_S, UNEQUAL, Regime, drawn_regimes

SMALL = Regime(workers=2, slots=2, spaces=2, models=3, skew=0.9, service_s=0.5, load_s=1.0, busy=0.3)
OUTCOME = Outcome(served=100, failed=0, mean=1.0, p50=1.0, p95=1.0, p99=1.0, worst=2.0, loads=3, jain=1.0)


def test_the_same_seed_draws_the_same_regimes_and_each_can_be_played() -> None:
    regimes = drawn_regimes(50, 7)
    assert regimes == drawn_regimes(50, 7)
    assert regimes != drawn_regimes(50, 8)
    assert all(regime.rate_per_s <= HIGHEST_RATE_PER_S for regime in regimes)
    assert len({regime.arrivals for regime in regimes}) == 3


def test_requests_are_in_order_and_as_many_as_were_asked_for() -> None:
    for regime in (SMALL, replace(SMALL, arrivals="bursty")):
        asks = list(regime.asks(1))
        assert all(first.at_s <= second.at_s for first, second in pairwise(asks))
        assert len(asks) == pytest.approx(regime.rate_per_s * regime.duration_s, rel=0.35)
    assert list(SMALL.asks(1)) == list(SMALL.asks(1))


def test_a_burst_is_of_twice_the_rate() -> None:
    regime = replace(SMALL, busy=0.8, service_s=0.05, arrivals=BURST)
    half_s = regime.duration_s / 2
    counts = [sum(begin <= ask.at_s < begin + 10.0 for ask in regime.asks(1)) for begin in (half_s - 10.0, half_s)]
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.25)


def test_drifting_popularity_makes_the_least_wanted_the_most_wanted() -> None:
    regime = replace(SMALL, models=8, skew=1.2, busy=0.8, popularity=DRIFTING)
    quarter_s = regime.duration_s / 4
    hottest = []
    for quarter in range(4):
        models = [ask.model for ask in regime.asks(1) if quarter <= ask.at_s / quarter_s < quarter + 1]
        hottest.append(max(set(models), key=models.count))
    assert hottest == [0, 7, 6, 5]


def test_a_load_takes_as_long_as_its_model_is_big() -> None:
    simulation = replace(SMALL, models=4, sizes=UNEQUAL, load_s=2.0).simulation("affinity", 1)
    told = {each.name: each.load_time_s for each in simulation.machines[0].catalogue_models()}
    loads_s = [told[name] for name in sorted(told)]
    assert loads_s == pytest.approx([1.0, 1.5, 2.0, 3.5])


@pytest.mark.parametrize("plane", ["central", "gossip"])
def test_the_same_game_ends_the_same_and_another_seed_otherwise(plane: str) -> None:
    game = Game(replace(SMALL, load_s=0.3), "expected-wait", 1, plane)
    first = play(game)
    assert first == play(game)
    assert first.failed == 0
    assert first != play(replace(game, seed=2))
    assert game.key != replace(game, seed=2).key


def test_the_best_of_those_that_failed_no_more_is_compared_in_each_measure() -> None:
    outcomes = {
        "ours": OUTCOME,
        "slow": replace(OUTCOME, mean=2.0, p50=0.5),
        "fast": replace(OUTCOME, mean=0.8, p95=5.0),
        "lossy": replace(OUTCOME, mean=0.1, failed=1),
    }
    found = {each.measure: each for each in compared(outcomes, "ours")}
    assert (found["mean"].best_policy, found["p50"].best_policy) == ("fast", "slow")
    assert found["mean"].is_loss
    assert found["p50"].ratio == pytest.approx(0.995 / 0.5)
    assert not found["p99"].is_loss
    assert failed_more(outcomes | {"ours": replace(OUTCOME, failed=10)}, "ours") == "slow"
    assert not failed_more(outcomes, "ours")


def test_a_tally_counts_losses_and_wins_of_more_than_a_tenth() -> None:
    told = [Comparison("mean", ours_s, best_s, "x") for ours_s, best_s in ((1.0, 1.0), (1.2, 1.0), (1.0, 1.2), (0.006, 0.002))]
    tally = tallied(told, 4)[0]
    assert (tally.lost, tally.won, tally.lost_share) == (1, 1, 0.25)
    assert tally.worst_ratio == pytest.approx(1.195)


def test_the_mean_of_several_seeds_adds_failures_and_keeps_the_worst() -> None:
    both = mean_of([OUTCOME, replace(OUTCOME, mean=3.0, failed=2, worst=9.0)])
    assert (both.mean, both.failed, both.worst, both.served) == (2.0, 2, 9.0, 200)
