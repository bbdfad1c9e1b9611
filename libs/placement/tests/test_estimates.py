"""How long a request would wait, case by case."""

from __future__ import annotations

import pytest
from placement_cases import MODELS, Case, timings, worker

from roost.cluster.worker_state import CatalogueModel, ModelStatus, Phase, WorkerState
from roost.placement.estimates import DEFAULT_LOAD_BANDWIDTH, DEFAULT_LOAD_TIME_S, DEFAULT_SERVICE_TIME_S

READY = ("llama-7b",)
TWO_SECONDS = timings(llama_7b=(2.0, 6.0))
BY_PRIORITY = (1, 0, 0, 0, 0, 2, 0, 0, 0, 3)


def wait_s(state: WorkerState, *others: WorkerState, priority: int = 0, now: float = 0.0, model: str = "llama-7b") -> float:
    return (
        Case("round-robin", [state, *others])
        .decide(model, now=now, priority=priority, excluded=[other.node_id for other in others])
        .estimated_wait_s
    )


@pytest.mark.parametrize(
    ("state", "expected_s"),
    [
        pytest.param(worker("w", *READY), 0.0, id="idle"),
        pytest.param(worker("w", *READY, busy_slots=3, slots=4), 0.0, id="one slot free"),
        pytest.param(worker("w", *READY, busy_slots=1, timings=TWO_SECONDS), 2.0, id="the only slot busy"),
        pytest.param(worker("w", *READY, busy_slots=4, slots=4, timings=TWO_SECONDS), 0.5, id="one of four slots gets free"),
        pytest.param(worker("w", *READY, busy_slots=4, slots=4, queue_depth=3, timings=TWO_SECONDS), 2.0, id="the fourth slot to get free"),
        pytest.param(worker("w", *READY, busy_slots=1), DEFAULT_SERVICE_TIME_S, id="never measured"),
        pytest.param(worker("w", *READY, busy_slots=1, timings=timings(phi_2=(3.0, 0.0))), 3.0, id="measured for another model only"),
    ],
)
def test_the_wait_for_a_ready_model_is_the_wait_for_a_slot(state: WorkerState, expected_s: float) -> None:
    assert wait_s(state) == pytest.approx(expected_s)


@pytest.mark.parametrize(("priority", "expected_s"), [(0, 14.0), (1, 12.0), (5, 12.0), (6, 8.0), (9, 8.0)])
def test_only_requests_of_the_same_or_a_higher_priority_are_ahead(priority: int, expected_s: float) -> None:
    state = worker("w", *READY, busy_slots=1, queue_depth=6, queue_by_priority=BY_PRIORITY, timings=TWO_SECONDS)
    assert wait_s(state, priority=priority) == expected_s


def test_requests_that_wait_for_another_models_load_are_passed() -> None:
    models = {
        "llama-7b": ModelStatus("llama-7b", Phase.READY),
        "phi-2": ModelStatus("phi-2", Phase.LOADING, queued=5, ready_in_s=9.0),
    }
    assert wait_s(worker("w", models=models, queue_depth=5)) == 0.0


def test_slow_and_fast_models_count_by_what_is_there() -> None:
    models = {
        "llama-7b": ModelStatus("llama-7b", Phase.READY, in_flight=1),
        "phi-2": ModelStatus("phi-2", Phase.READY, queued=3),
    }
    state = worker("w", models=models, queue_depth=3, busy_slots=1, timings=timings(llama_7b=(5.0, 0.0), phi_2=(1.0, 0.0)))
    assert wait_s(state) == pytest.approx(4 * (5.0 + 3 * 1.0) / 4)


@pytest.mark.parametrize(
    ("state", "others", "expected_s"),
    [
        pytest.param(worker("w", timings=TWO_SECONDS), [], 6.0, id="measured by that worker"),
        pytest.param(worker("w"), [worker("v", timings=timings(llama_7b=(0.0, 4.0)))], 4.0, id="measured by another"),
        pytest.param(worker("w"), [], MODELS[0].size_bytes / DEFAULT_LOAD_BANDWIDTH, id="by its size"),
        pytest.param(
            worker("w", catalogue=(CatalogueModel("llama-7b", "llamacpp", 253_000_000),)), [], 1.253, id="by its size, on a processor"
        ),
        pytest.param(worker("w", loading={"llama-7b": 3.0}), [], 3.0, id="loading already"),
        pytest.param(worker("w", loading={"llama-7b": 0.0}, timings=TWO_SECONDS), [], 6.0, id="loading, nobody knows how long"),
        pytest.param(worker("w", timings=TWO_SECONDS, busy_slots=1, queue_depth=1), [], 6.0, id="the queue is served meanwhile"),
        pytest.param(worker("w", timings=TWO_SECONDS, busy_slots=1, queue_depth=4), [], 10.0, id="the queue takes longer"),
    ],
)
def test_the_wait_for_an_absent_model_is_its_load_or_the_queue(state: WorkerState, others: list[WorkerState], expected_s: float) -> None:
    assert wait_s(state, *others) == pytest.approx(expected_s)


def test_the_rest_of_a_load_shrinks_as_the_report_grows_old() -> None:
    assert wait_s(worker("w", loading={"llama-7b": 3.0}), now=2.0) == pytest.approx(1.0)
    assert wait_s(worker("w", loading={"llama-7b": 3.0}), now=4.0) == 0.0


def test_a_model_whose_size_nobody_stated_takes_the_default() -> None:
    holder = worker("v", models={"seen": ModelStatus("seen", Phase.READY)}, epoch=0, sequence=0, catalogue=None)
    assert wait_s(worker("w", epoch=0, sequence=0, catalogue=None), holder, model="seen") == DEFAULT_LOAD_TIME_S


def test_a_model_that_is_served_elsewhere_takes_no_load() -> None:
    catalogue = (CatalogueModel("proxied", "openai", 0),)
    assert wait_s(worker("w", catalogue=catalogue), model="proxied") == 0.0


def test_reservations_are_ahead() -> None:
    case = Case("weighted-score", [worker("w", *READY, slots=2, timings=TWO_SECONDS)])
    assert [case.decide().estimated_wait_s for _ in range(5)] == [0.0, 0.0, 1.0, 2.0, 3.0]


def test_requests_reserved_for_the_same_load_start_before() -> None:
    case = Case("weighted-score", [worker("w", timings=TWO_SECONDS)])
    assert [case.decide().estimated_wait_s for _ in range(3)] == [6.0, 8.0, 10.0]


def test_a_higher_priority_finds_the_slot_taken_by_what_was_sent_before() -> None:
    case = Case("weighted-score", [worker("w", *READY, timings=TWO_SECONDS)])
    case.decide(priority=0)
    case.decide(priority=0)
    assert case.decide(priority=9).estimated_wait_s == 2.0
