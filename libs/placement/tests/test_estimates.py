"""How long a request would wait, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from placement_cases import GB, MODELS, Case, timings, worker

from roost.cluster.worker_state import CatalogueModel, ModelStatus, Phase, WorkerState
from roost.placement.estimates import DEFAULT_LOAD_BANDWIDTH, DEFAULT_LOAD_TIME_S, DEFAULT_SERVICE_TIME_S

READY = ("llama-7b",)
TWO_SECONDS = timings(llama_7b=(2.0, 6.0))
BY_PRIORITY = (1, 0, 0, 0, 0, 2, 0, 0, 0, 3)
EXPECTED = (CatalogueModel("llama-7b", "llamacpp", 253_000_000, load_time_s=2.5),)


def resident(*statuses: ModelStatus) -> dict[str, ModelStatus]:
    return {status.name: status for status in statuses}


def ready(name: str = "llama-7b", **fields: Any) -> ModelStatus:
    return ModelStatus(name, Phase.READY, **fields)


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


@pytest.mark.parametrize(("priority", "expected_s"), [(0, 4.0), (5, 2.0), (9, 2.0)])
def test_of_mixed_priorities_only_those_ahead_can_be_passed(priority: int, expected_s: float) -> None:
    """Three of priority 0 wait for a load, one of priority 0 and none of a higher one for the slot."""
    models = resident(ready(queued=1, in_flight=1), ModelStatus("phi-2", Phase.LOADING, queued=3, ready_in_s=9.0))
    by_priority = (4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    state = worker("w", models=models, busy_slots=1, queue_depth=4, queue_by_priority=by_priority, timings=TWO_SECONDS)
    assert wait_s(state, priority=priority) == expected_s


def test_requests_of_other_priorities_that_wait_for_a_load_do_not_hide_those_ahead() -> None:
    """Of priority 9 two wait for the slot; the three that wait for a load are of priority 0."""
    models = resident(ready(queued=2, in_flight=1), ModelStatus("phi-2", Phase.LOADING, queued=3, ready_in_s=9.0))
    by_priority = (3, 0, 0, 0, 0, 0, 0, 0, 0, 2)
    state = worker("w", models=models, busy_slots=1, queue_depth=5, queue_by_priority=by_priority, timings=TWO_SECONDS)
    assert wait_s(state, priority=9) == 6.0


def test_a_simple_reporter_with_a_queue_has_no_idle_slot() -> None:
    state = worker("w", *READY, queue_depth=2, epoch=0, sequence=0, timings=TWO_SECONDS)
    assert Case("round-robin", [state]).decide().reason == "w has llama-7b ready, 2 ahead in queue"
    assert wait_s(state) == 6.0


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
        pytest.param(worker("w", catalogue=EXPECTED), [], 2.5, id="as its own catalogue expects"),
        pytest.param(worker("w", catalogue=EXPECTED, timings=TWO_SECONDS), [], 6.0, id="measured, whatever its catalogue expects"),
        pytest.param(
            worker("w", catalogue=EXPECTED), [worker("v", timings=timings(llama_7b=(0.0, 4.0)))], 4.0, id="measured elsewhere, whatever"
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


# --- models that run fewer requests at once than there are slots ----------------------------------


@pytest.mark.parametrize(
    ("status", "fields", "expected_s", "turn"),
    [
        pytest.param(ready(max_parallel=1), {}, 0.0, "none ahead in queue", id="idle"),
        pytest.param(ready(max_parallel=1, in_flight=1), {"busy_slots": 1}, 2.0, "next in queue, llama-7b runs 1 at a time", id="runs one"),
        pytest.param(
            ready(max_parallel=1, in_flight=1, queued=5),
            {"busy_slots": 1, "queue_depth": 5},
            12.0,
            "5 ahead in queue",
            id="five wait for its place, none for a slot",
        ),
        pytest.param(
            ready(max_parallel=2, in_flight=2, queued=2), {"busy_slots": 2, "queue_depth": 2}, 3.0, "2 ahead in queue", id="two places"
        ),
        pytest.param(ready(max_parallel=2, in_flight=1), {"busy_slots": 3}, 0.0, "none ahead in queue", id="a place and a slot left"),
        pytest.param(
            ready(max_parallel=2, in_flight=1), {"busy_slots": 4}, 0.5, "next in queue, 4 of 4 slots busy", id="a place left, no slot"
        ),
        pytest.param(
            ready(max_parallel=8, in_flight=4), {"busy_slots": 4}, 0.5, "next in queue, 4 of 4 slots busy", id="more places than slots"
        ),
    ],
)
def test_a_model_with_few_places_makes_its_own_requests_wait(
    status: ModelStatus, fields: dict[str, int], expected_s: float, turn: str
) -> None:
    state = worker("w", models=resident(status), slots=4, timings=TWO_SECONDS, **fields)
    decision = Case("round-robin", [state]).decide()
    assert (decision.estimated_wait_s, decision.reason) == (expected_s, f"w has llama-7b ready, {turn}")


def test_a_burst_for_a_model_with_one_place_is_served_one_by_one() -> None:
    case = Case("weighted-score", [worker("w", models=resident(ready(max_parallel=1)), slots=4, timings=TWO_SECONDS)])
    decisions = [case.decide() for _ in range(7)]
    assert [decision.estimated_wait_s for decision in decisions] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    assert [decision.reason.partition("ready, ")[2] for decision in decisions[:3]] == [
        "none ahead in queue",
        "next in queue, llama-7b runs 1 at a time",
        "1 ahead in queue",
    ]
    assert decisions[-1].reason.endswith("5 ahead in queue")


def test_a_reserved_request_of_a_lower_priority_gets_to_the_place_first() -> None:
    case = Case("weighted-score", [worker("w", models=resident(ready(max_parallel=1)), slots=4, timings=TWO_SECONDS)])
    case.decide(priority=0)
    assert case.decide(priority=9).estimated_wait_s == 2.0


def test_requests_that_wait_for_another_models_place_are_passed() -> None:
    models = resident(ready(), ready("phi-2", max_parallel=1, in_flight=1, queued=5))
    assert wait_s(worker("w", models=models, slots=4, busy_slots=1, queue_depth=5)) == 0.0


def test_after_its_load_a_model_with_one_place_serves_one_by_one() -> None:
    status = ModelStatus("llama-7b", Phase.LOADING, queued=3, ready_in_s=4.0, max_parallel=1)
    assert wait_s(worker("w", models=resident(status), slots=4, queue_depth=3, timings=TWO_SECONDS)) == 4.0 + 3 * 2.0


# --- memory for a load ----------------------------------------------------------------------------

HELD = [
    pytest.param([], {"memory_used_bytes": 7 * GB}, 6.0, id="it just fits"),
    pytest.param([ready("phi-2", size_bytes=8 * GB)], {"memory_used_bytes": 8 * GB}, 6.0, id="what has to leave is idle"),
    pytest.param([ready("phi-2", size_bytes=8 * GB, in_flight=1)], {"memory_used_bytes": 8 * GB}, 8.0, id="in use"),
    pytest.param([ready("phi-2", size_bytes=8 * GB, queued=1)], {"memory_used_bytes": 8 * GB}, 8.0, id="queued"),
    pytest.param([ModelStatus("phi-2", Phase.LOADING, 8 * GB, ready_in_s=3.0)], {}, 9.0, id="loading, for nobody"),
    pytest.param([ModelStatus("phi-2", Phase.LOADING, 8 * GB, ready_in_s=3.0, queued=1)], {}, 11.0, id="loading, and then in use"),
    pytest.param(
        [ready("phi-2", size_bytes=4 * GB, in_flight=1), ModelStatus("x", Phase.LOADING, 4 * GB, ready_in_s=9.0)],
        {"memory_used_bytes": 8 * GB},
        8.0,
        id="the soonest is enough",
    ),
    pytest.param(
        [ready("phi-2", size_bytes=2 * GB, in_flight=1), ModelStatus("x", Phase.LOADING, 16 * GB, ready_in_s=9.0)],
        {"memory_used_bytes": 18 * GB},
        15.0,
        id="the soonest is not enough",
    ),
    pytest.param([], {"memory_used_bytes": 8 * GB}, 8.0, id="on its way out, and not listed"),
    pytest.param(
        [ModelStatus("phi-2", Phase.LOADING, 0, ready_in_s=3.0), ready("x", size_bytes=6 * GB, in_flight=1)],
        {},
        8.0,
        id="waits for memory itself",
    ),
    pytest.param([ready("phi-2", size_bytes=8 * GB, in_flight=1)], {"memory_capacity_bytes": 0}, 6.0, id="its memory is not known"),
]


@pytest.mark.parametrize(("statuses", "fields", "expected_s"), HELD)
def test_a_load_waits_for_memory(statuses: list[ModelStatus], fields: dict[str, int], expected_s: float) -> None:
    """20 GB of memory, 13 GB needed, 6 s to load, 2 s a request; one slot of two is free."""
    made = {"memory_capacity_bytes": 20 * GB, "slots": 2, "timings": timings(llama_7b=(0.0, 6.0), phi_2=(2.0, 0.0))} | fields
    state = worker("w", models=resident(*statuses), **made)
    decision = Case("round-robin", [state]).decide()
    assert decision.estimated_wait_s == pytest.approx(expected_s)
    assert f"will load it in about {expected_s:.1f} s" in decision.reason


def test_the_wait_for_memory_shrinks_as_the_report_grows_old() -> None:
    models = resident(ModelStatus("phi-2", Phase.LOADING, 8 * GB, ready_in_s=3.0))
    state = worker("w", models=models, memory_capacity_bytes=20 * GB, timings=TWO_SECONDS)
    assert wait_s(state, now=2.0) == pytest.approx(1.0 + 6.0)
    assert wait_s(state, now=5.0) == pytest.approx(6.0)
