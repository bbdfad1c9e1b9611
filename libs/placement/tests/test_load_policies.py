"""least-loaded and power-of-two: requests for each slot, then utilisation."""

from __future__ import annotations

import pytest
from placement_cases import Case, idle_workers, worker

from roost.placement.decision import Action


@pytest.mark.parametrize("policy", ["least-loaded", "power-of-two"])
@pytest.mark.parametrize(
    ("heavier", "lighter"),
    [
        pytest.param({"queue_depth": 2}, {"queue_depth": 1}, id="waiting"),
        pytest.param({"busy_slots": 2, "slots": 4}, {"busy_slots": 1, "slots": 4}, id="running"),
        pytest.param({"queue_depth": 2, "slots": 2}, {"queue_depth": 3, "slots": 4}, id="for each slot"),
        pytest.param({"gpu_utilization": 0.6}, {"gpu_utilization": 0.5}, id="utilisation between equals"),
        pytest.param({"queue_depth": 1}, {"gpu_utilization": 1.0}, id="a request outweighs it"),
    ],
)
def test_the_lighter_of_two_is_chosen_whatever_is_ready(policy: str, heavier: dict[str, object], lighter: dict[str, object]) -> None:
    decision = Case(policy, [worker("heavier", "llama-7b", **heavier), worker("lighter", **lighter)]).decide()
    assert (decision.worker_id, decision.action) == ("lighter", Action.COLD_START)


def test_least_loaded_fills_slots_evenly() -> None:
    assert Case("least-loaded", [worker("large", slots=8), worker("small", slots=2)]).burst(50) == {"large": 40, "small": 10}


def test_power_of_two_never_chooses_the_fullest_of_three() -> None:
    case = Case("power-of-two", [worker("full", queue_depth=1_000), worker("a"), worker("b")])
    assert case.burst(100)["full"] == 0


def test_power_of_two_is_nearer_to_even_than_chance() -> None:
    two = Case("power-of-two", idle_workers(100)).burst(1_000)
    one = Case("random", idle_workers(100)).burst(1_000)
    assert max(two.values()) <= 13
    assert max(two.values()) < max(one.values())
