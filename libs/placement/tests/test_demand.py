"""How often models are asked for."""

from __future__ import annotations

import random

import pytest

from roost.placement.demand import MAX_MODELS, Demand, cost_of_absence_s


def poisson(demand: Demand, model: str, rate: float, until_s: float, rng: random.Random) -> None:
    now = 0.0
    while (now := now + rng.expovariate(rate)) < until_s:
        demand.arrived(model, now)


@pytest.mark.parametrize("until_s", [20.0, 200.0])
@pytest.mark.parametrize("rate", [2.0, 40.0])
def test_a_steady_rate_is_found_early_and_late(rate: float, until_s: float) -> None:
    demand = Demand(window_s=30.0)
    poisson(demand, "m", rate, until_s, random.Random(3))
    assert demand.rate("m", until_s) == pytest.approx(rate, rel=0.35)


def test_a_rate_fades_when_nobody_asks_any_more() -> None:
    demand = Demand(window_s=10.0)
    poisson(demand, "m", 5.0, 100.0, random.Random(4))
    assert demand.rate("m", 110.0) == pytest.approx(demand.rate("m", 100.0) / 2.718, rel=0.01)


def test_a_model_that_was_never_asked_for_costs_nothing_to_put_out() -> None:
    assert cost_of_absence_s(Demand().rate("m", 5.0), 10.0) == 0.0


def test_each_who_asks_within_one_load_waits_for_one_load() -> None:
    assert cost_of_absence_s(rate=3.0, load_s=2.0) == 12.0


def test_names_are_bounded_and_faded_ones_make_room() -> None:
    demand = Demand(window_s=1.0)
    for number in range(MAX_MODELS):
        demand.arrived(f"m{number}", 0.0)
    demand.arrived("refused", 0.1)
    assert demand.rate("refused", 0.1) == 0.0
    demand.arrived("new", 20.0)
    assert demand.rate("new", 20.0) > 0.0
