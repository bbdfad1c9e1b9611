"""From request to decision: reservations, refusals, counts and words."""

from __future__ import annotations

import pytest
from placement_cases import GB, MODELS, Case, idle_workers, timings, worker

from roost.cluster.errors import DeadlineImpossible, ModelTooLarge, NoWorkers, UnknownModel
from roost.cluster.worker_state import CacheResult, DecisionOutcome
from roost.placement.decision import Action


def case_of(*workers: object, policy: str = "weighted-score") -> Case:
    return Case(policy, workers)  # type: ignore[arg-type]


# --- the decision ---------------------------------------------------------------------------------


def test_a_decision_says_where_what_and_how_old_the_view_was() -> None:
    decision = case_of(worker("w", "llama-7b", address="host:8001")).decide(now=0.4)
    assert (decision.worker_id, decision.worker_address, decision.action) == ("w", "host:8001", Action.SERVE)
    assert (decision.view_age_s, decision.policy, decision.request_id) == (0.4, "weighted-score", "r")


def test_decision_ids_begin_with_the_decider_and_never_repeat() -> None:
    case = case_of(*idle_workers(3))
    ids = {case.decide().decision_id for _ in range(50)}
    assert len(ids) == 50
    assert all(decision_id.startswith("d-") for decision_id in ids)


def test_an_unknown_model_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UnknownModel, match="did you mean llama-7b"):
        case_of(worker("w")).decide("lama-7b")


# --- reasons --------------------------------------------------------------------------------------

REASONS = [
    ([worker("worker-2", "llama-7b", queue_depth=1, busy_slots=1)], {}, "worker-2 has llama-7b ready, 1 ahead in queue"),
    ([worker("worker-2", "llama-7b")], {}, "worker-2 has llama-7b ready, none ahead in queue"),
    ([worker("w", "llama-7b", busy_slots=4, slots=4)], {}, "w has llama-7b ready, next in queue, 4 of 4 slots busy"),
    (
        [worker("worker-1", timings=timings(llama_7b=(0.0, 2.1)))],
        {},
        "no live worker has llama-7b; worker-1 is least loaded and will load it in about 2.1 s",
    ),
    (
        [worker("worker-1", loading={"llama-7b": 1.5}, queue_depth=2, busy_slots=1)],
        {},
        "no live worker has llama-7b; worker-1 is least loaded and is loading it, ready in about 1.5 s, 2 ahead in queue",
    ),
    (
        [worker("h", "llama-7b", queue_depth=200), worker("w", timings=timings(llama_7b=(0.0, 3.0)))],
        {},
        "1 other worker has llama-7b ready; w is least loaded and will load it in about 3.0 s",
    ),
    (
        [worker("h", "llama-7b"), worker("w", timings=timings(llama_7b=(0.0, 3.0)))],
        {"excluded": ["h"]},
        "only excluded workers have llama-7b ready; w is least loaded and will load it in about 3.0 s",
    ),
    (
        [worker("h", "llama-7b", is_draining=True), worker("w", timings=timings(llama_7b=(0.0, 3.0)))],
        {},
        "only draining workers have llama-7b ready; w is least loaded and will load it in about 3.0 s",
    ),
]


@pytest.mark.parametrize(("workers", "request_fields", "reason"), REASONS)
def test_the_reason_is_a_sentence_an_operator_understands(workers: list[object], request_fields: dict[str, list[str]], reason: str) -> None:
    assert case_of(*workers).decide(**request_fields).reason == reason  # type: ignore[arg-type]


# --- refusals -------------------------------------------------------------------------------------


def test_no_workers_says_how_many_there_are_and_why_none_will_do() -> None:
    case = case_of(
        worker("dead", epoch=0, sequence=0, catalogue=None),
        worker("suspect"),
        worker("draining", is_draining=True),
        worker("out1"),
        worker("out2"),
        worker("small", memory_capacity_bytes=GB),
        worker("other", catalogue=()),
    )
    for name in ("suspect", "draining", "out1", "out2", "small", "other"):
        state = case.view.entry(name).state
        fields = {"is_draining": state.is_draining, "memory_capacity_bytes": state.memory_capacity_bytes, "catalogue": state.catalogue}
        case.view.apply(worker(name, **fields | {"sequence": 2}), 9.0, is_streamed=True)
    case.view.advance(11.0)
    case.view.stream_lost("suspect", 1, 11.0)
    with pytest.raises(NoWorkers) as refused:
        case.decide(now=11.0, excluded=["out1", "out2", "never-heard-of"])
    assert str(refused.value) == (
        "7 workers known: 1 dead, 1 suspect, 1 draining, 2 excluded, 1 with too little memory for llama-7b, "
        "1 without llama-7b in its catalogue"
    )
    assert refused.value.retry_after_s > 0


def test_a_model_too_large_for_every_worker_is_refused_with_both_numbers() -> None:
    case = case_of(worker("a", memory_capacity_bytes=8 * GB), worker("b", memory_capacity_bytes=12 * GB), worker("c", catalogue=()))
    with pytest.raises(ModelTooLarge, match="llama-7b takes 13000000000 bytes and the memory budget is 12000000000 bytes"):
        case.decide()
    assert case.decide("phi-2").action is Action.COLD_START


def test_a_model_that_a_dead_worker_could_hold_is_not_called_too_large() -> None:
    case = case_of(worker("small", memory_capacity_bytes=8 * GB), worker("large", memory_capacity_bytes=80 * GB))
    case.view.stream_lost("large", 1, 0.0)
    with pytest.raises(NoWorkers, match="2 workers known: 1 suspect, 1 with too little memory for llama-7b"):
        case.decide()


def test_a_simple_reporter_with_too_little_memory_is_not_chosen() -> None:
    with pytest.raises(ModelTooLarge):
        case_of(worker("w", epoch=0, sequence=0, catalogue=None, memory_capacity_bytes=GB)).decide()


def test_a_deadline_beyond_the_estimate_is_refused_and_leaves_no_trace() -> None:
    case = case_of(worker("w", "llama-7b", queue_depth=3, busy_slots=1, timings=timings(llama_7b=(2.0, 0.0))))
    with pytest.raises(DeadlineImpossible) as refused:
        case.decide(deadline_s=7.9)
    assert refused.value.estimate_s == 8.0
    assert (case.placer.reserved("w"), case.placer.statistics.total_requests) == (0, 0)
    assert case.decide(deadline_s=8.0).estimated_wait_s == 8.0


def test_a_deadline_is_not_refused_by_a_guess_but_by_a_load_that_is_known_to_take_longer() -> None:
    case = case_of(worker("w", "llama-7b", queue_depth=30, busy_slots=1))  # nobody has measured how long a request takes
    assert case.decide(deadline_s=5.0).estimated_wait_s > 5.0
    with pytest.raises(DeadlineImpossible):
        case.decide("phi-2", deadline_s=0.5)


# --- reservations ---------------------------------------------------------------------------------


def outcome(decision_id: str, found: CacheResult = CacheResult.HIT) -> DecisionOutcome:
    return DecisionOutcome(decision_id, found)


def test_a_decision_is_a_reservation_until_its_outcome_arrives() -> None:
    case = case_of(worker("w", "llama-7b"))
    decision = case.decide()
    assert case.placer.reserved("w") == 1
    case.placer.settle("w", [outcome("someone-else-7")], 0.1)
    assert case.placer.reserved("w") == 1
    case.placer.settle("w", [outcome(decision.decision_id)], 0.2)
    assert (case.placer.reserved("w"), case.placer.reservations) == (0, 0)


def test_a_reservation_without_outcome_ends_with_the_bound() -> None:
    case = case_of(worker("w", "llama-7b"))
    case.decide(now=0.0)
    case.placer.advance(4.9)
    assert case.placer.reserved("w") == 1
    case.placer.advance(5.0)
    assert case.placer.reserved("w") == 0


def test_a_simple_reporters_next_report_ends_reservations_older_than_a_second() -> None:
    case = case_of(worker("w", epoch=0, sequence=0))
    case.decide(now=0.0)
    case.decide(now=1.5)
    case.view.apply(worker("w", epoch=0, sequence=0, queue_depth=1), 2.0, is_streamed=False)
    assert case.placer.reserved("w") == 1


def test_a_report_of_a_worker_that_lists_arrivals_leaves_the_others_reserved() -> None:
    case = case_of(worker("w"))
    case.decide(now=0.0)
    case.view.apply(worker("w", sequence=2), 2.0, is_streamed=True)
    assert case.placer.reserved("w") == 1


def test_a_new_life_of_a_worker_has_none_of_the_old_ones_reservations() -> None:
    case = case_of(worker("w"))
    case.decide()
    case.view.apply(worker("w", epoch=2), 0.5, is_streamed=True)
    assert case.placer.reserved("w") == 0


def test_reservations_outlive_a_broken_stream() -> None:
    case = case_of(worker("w", "llama-7b"), worker("v", "llama-7b"))
    for _ in range(6):
        case.decide()
    case.view.stream_lost("w", 1, 0.1)
    case.view.apply(worker("w", "llama-7b", sequence=2), 0.2, is_streamed=True)
    assert case.placer.reserved("w") == 3
    assert case.burst(4) == {"w": 2, "v": 2}


def test_what_a_report_shows_is_not_counted_twice() -> None:
    case = case_of(*idle_workers(2, "llama-7b"))
    sent = [case.decide() for _ in range(10)]
    arrived = [decision for decision in sent if decision.worker_id == "worker-0"]
    report = worker("worker-0", "llama-7b", sequence=2, queue_depth=5, outcomes=tuple(outcome(d.decision_id) for d in arrived))
    case.view.apply(report, 0.1, is_streamed=True)
    case.placer.settle("worker-0", report.outcomes, 0.1)
    assert case.burst(10) == {"worker-0": 5, "worker-1": 5}


def test_an_outcome_from_another_worker_than_the_chosen_one_frees_the_chosen_one() -> None:
    case = case_of(*idle_workers(2, "llama-7b"))
    sent = [case.decide(excluded=["worker-1"]) for _ in range(6)]
    case.placer.settle("worker-1", [outcome(decision.decision_id) for decision in sent], 0.1)
    assert case.placer.reserved("worker-0") == 0
    assert case.burst(10) == {"worker-0": 5, "worker-1": 5}


# --- statistics -----------------------------------------------------------------------------------


def test_a_decision_counts_at_once_and_is_corrected_by_its_outcome() -> None:
    case = case_of(worker("w"))
    first, second, third = case.decide(), case.decide(), case.decide()
    counts = case.placer.statistics
    assert (counts.total_requests, counts.hits, counts.cold_starts, counts.joins) == (3, 0, 1, 2), "two are to join the first one's load"
    found = [outcome(second.decision_id, CacheResult.JOIN), outcome(third.decision_id, CacheResult.HIT)]
    case.placer.settle("w", [outcome(first.decision_id, CacheResult.COLD_START), *found], 0.1)
    assert (counts.total_requests, counts.hits, counts.cold_starts, counts.joins) == (3, 1, 1, 1)


def test_an_outcome_that_comes_after_the_reservation_ended_still_corrects() -> None:
    case = case_of(worker("w"))
    decision = case.decide(now=0.0)
    case.placer.settle("w", [outcome(decision.decision_id, CacheResult.JOIN)], 60.0)
    assert (case.placer.statistics.cold_starts, case.placer.statistics.joins) == (0, 1)


# --- views that change ----------------------------------------------------------------------------


def test_a_worker_that_gains_memory_can_take_the_larger_model() -> None:
    case = case_of(worker("w", memory_capacity_bytes=GB))
    with pytest.raises(ModelTooLarge):
        case.decide()
    case.view.apply(worker("w", sequence=2, memory_capacity_bytes=80 * GB), 0.1, is_streamed=True)
    assert case.decide().worker_id == "w"


def test_a_worker_that_gets_a_catalogue_can_take_what_is_in_it() -> None:
    case = case_of(worker("w", catalogue=()))
    with pytest.raises(NoWorkers, match="1 without llama-7b in its catalogue"):
        case.decide()
    case.view.apply(worker("w", sequence=2, catalogue=MODELS), 0.1, is_streamed=True)
    assert case.decide().worker_id == "w"


def test_a_forgotten_worker_leaves_nothing_behind() -> None:
    case = case_of(worker("w", "llama-7b"))
    case.decide(now=0.0)
    case.view.advance(20.0)
    case.view.advance(4_000.0)
    assert (len(case.view.entries), case.placer.reservations) == (0, 0)
    with pytest.raises(NoWorkers, match="no worker is known yet"):
        case.decide(now=4_000.0)
