"""When a line that waits for a load is due."""

from __future__ import annotations

import math

import pytest
from placement_cases import GB, Case, timings, worker

from roost.placement.turns import SHORTEST_TURN_S, turn_s

MEASURED = timings(llama_7b=(0.1, 2.0), phi_2=(0.1, 2.0))


@pytest.mark.parametrize(
    ("load_s", "service_s", "slots", "models_per_space", "expected_s"),
    [
        (0.1, 0.01, 1, 1.0, SHORTEST_TURN_S),
        (3.0, 0.05, 1, 0.5, 6.0),
        (3.0, 0.05, 1, 2.0, 2.0 * (4.5 + 0.05)),
        (1.0, 3.0, 4, 16 / 12, 16 / 12 * (1.5 + 3.0 * (1 + math.log(4)))),
    ],
    ids=["never hasty", "two loads where the models fit", "each space serves two in turn", "what runs must end first"],
)
def test_a_turn_is_a_fair_cycle(load_s: float, service_s: float, slots: int, models_per_space: float, expected_s: float) -> None:
    assert turn_s(load_s, service_s, slots, models_per_space) == pytest.approx(expected_s)


def test_models_that_wait_count_and_those_on_several_workers_count_once() -> None:
    full = {"memory_capacity_bytes": 10 * GB, "memory_used_bytes": 10 * GB, "timings": MEASURED, "slots": 1}
    case = Case("expected-wait", [worker("w1", "llama-7b", "phi-2", **full), worker("w2", "llama-7b", "phi-2", **full)])
    one_turn_s = 1.5 * 2.0 + 0.1
    assert case.placer.turn_s("llama-7b", 0, 1.0) == pytest.approx(4.0), "two models in four spaces"
    assert case.placer.turn_s("llama-7b", 6, 1.0) == pytest.approx(8 / 4 * one_turn_s)
