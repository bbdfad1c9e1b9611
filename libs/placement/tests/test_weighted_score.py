"""The reference formula, exactly."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_cases import Case, idle_workers, worker

from roost.cluster.worker_state import CacheResult, DecisionOutcome
from roost.placement.decision import Action

SERVE, COLD_START = Action.SERVE, Action.COLD_START


@pytest.mark.parametrize(
    ("workers", "chosen", "action"),
    [
        pytest.param([("a", True, 0, 0.0), ("b", False, 0, 0.0)], "a", SERVE, id="a holder wins"),
        pytest.param([("a", True, 5, 0.5), ("b", True, 5, 0.4)], "b", SERVE, id="of holders the less used GPU"),
        pytest.param([("a", True, 5, 0.0), ("b", True, 4, 0.09)], "b", SERVE, id="a request weighs as much as a tenth of the GPU"),
        pytest.param([("a", True, 5, 0.0), ("b", True, 4, 0.11)], "a", SERVE, id="and not more"),
        pytest.param([("a", True, 99, 0.0), ("b", False, 0, 0.0)], "a", SERVE, id="99 requests are not worth a load"),
        pytest.param([("a", True, 101, 0.0), ("b", False, 0, 0.0)], "b", COLD_START, id="101 are"),
        pytest.param([("a", True, 91, 1.0), ("b", False, 0, 0.0)], "b", COLD_START, id="as are 91 and a full GPU"),
        pytest.param([("a", True, 150, 0.0), ("b", False, 60, 0.0)], "a", SERVE, id="the least loaded one is busy, too"),
        pytest.param([("a", False, 3, 0.0), ("b", False, 2, 0.0), ("c", False, 2, 0.1)], "b", COLD_START, id="nobody has it"),
    ],
)
def test_the_best_score_wins(workers: list[tuple[str, bool, int, float]], chosen: str, action: Action) -> None:
    states = [worker(name, *(["llama-7b"] if has else []), queue_depth=queue, gpu_utilization=gpu) for name, has, queue, gpu in workers]
    decision = Case("weighted-score", states).decide()
    assert (decision.worker_id, decision.action) == (chosen, action)


def test_a_loading_model_is_not_had() -> None:
    states = [worker("a", loading={"llama-7b": 1.0}, queue_depth=1), worker("b")]
    assert Case("weighted-score", states).decide().worker_id == "b"


def test_a_tie_between_a_holder_and_the_least_loaded_is_broken_by_chance() -> None:
    states = [worker("a", "llama-7b", queue_depth=100), worker("b")]
    assert {Case("weighted-score", states, seed).decide().worker_id for seed in range(20)} == {"a", "b"}


def test_a_burst_for_a_model_on_two_of_ten_workers_stays_on_the_two() -> None:
    states = [*idle_workers(8), worker("h1", "llama-7b"), worker("h2", "llama-7b")]
    assert Case("weighted-score", states).burst(100) == {"h1": 50, "h2": 50}


def test_a_burst_beyond_a_hundred_ahead_spills() -> None:
    states = [worker("h", "llama-7b"), worker("idle")]
    counts = Case("weighted-score", states).burst(130)
    assert counts["h"] - 100 in range(14, 17)
    assert counts.total() == 130


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 120))
def test_every_choice_has_the_best_score_of_a_scan_over_all_workers(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    case = Case("weighted-score", [], seed)
    states = {}
    on_their_way: list[tuple[str, str]] = []
    for step in range(1, steps + 1):
        name = f"w{rng.randrange(8)}"
        arrived = [decision for node, decision in on_their_way if node == name]
        if rng.random() < 0.4:
            on_their_way = [pair for pair in on_their_way if pair[0] != name]
            states[name] = worker(
                name,
                *[model for model in ("llama-7b", "phi-2") if rng.random() < 0.4],
                queue_depth=rng.choice([0, 0, 1, 2, 50, 100, 120]),
                gpu_utilization=rng.choice([0.0, 0.0, 0.1, 0.5, 1.0]),
                is_draining=rng.random() < 0.1,
                catalogue=rng.choice([None, None, worker("x").catalogue, ()]),
                sequence=step,
                outcomes=tuple(DecisionOutcome(decision, CacheResult.HIT) for decision in arrived),
            )
            case.view.apply(states[name], 0.0, is_streamed=True)
            case.placer.settle(name, states[name].outcomes, 0.0)
        model = rng.choice(["llama-7b", "phi-2"])
        excluded = {f"w{rng.randrange(8)}"} if rng.random() < 0.3 else set()
        scores = {
            node: 1000 * state.has_ready(model) - 10 * (state.queue_depth + case.placer.reserved(node)) - 100 * state.gpu_utilization
            for node, state in states.items()
            if not state.is_draining and node not in excluded and case.view.can_load(node, model)
        }
        if scores:
            decision = case.decide(model, excluded=excluded)
            assert scores[decision.worker_id] == max(scores.values())
            assert decision.action is (SERVE if states[decision.worker_id].has_ready(model) else COLD_START)
            on_their_way.append((decision.worker_id, decision.decision_id))
