"""What is remembered of decisions."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from placement_cases import GB, MODELS, timings, worker

from roost.cluster.errors import NoWorkers
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CacheResult, DecisionOutcome, ModelStatus, Phase, WorkerState
from roost.placement.decision import Decision
from roost.placement.placer import Placer
from roost.placement.records import MOST_CONSIDERED, DecisionRecords
from roost.placement.registry import policy_names
from roost.placement.request import PlacementRequest


def placer_of(*states: WorkerState, policy: str = "expected-wait", capacity: int = 100) -> Placer:
    view = ClusterView(catalogue=MODELS)
    placer = Placer(view, policy, rng=random.Random(3), decider="d", records=DecisionRecords(capacity))
    for state in states:
        view.apply(state, 0.0, is_streamed=True)
    return placer


def ask(placer: Placer, request_id: str = "r", model: str = "llama-7b", now: float = 1.0) -> Decision:
    return placer.decide(PlacementRequest(request_id, model), now)


def records_of(placer: Placer) -> DecisionRecords:
    assert placer.records is not None
    return placer.records


def test_a_decision_is_remembered_with_what_was_seen_and_what_it_would_have_cost() -> None:
    busy = {"llama-7b": ModelStatus("llama-7b", Phase.READY, 13 * GB, in_flight=1, queued=2)}
    placer = placer_of(
        worker("busy", models=busy, busy_slots=1, queue_depth=2, timings=timings(llama_7b=(2.0, 60.0))),
        worker("idle", timings=timings(llama_7b=(2.0, 60.0))),
    )
    decision = ask(placer)
    [record] = records_of(placer).of("r")
    assert record.result == decision
    assert record.decided_at == 1.0
    chosen, *others = record.considered
    assert (chosen.entry.state.node_id, chosen.entry.state.queue_depth, chosen.reserved) == ("busy", 2, 0)
    assert chosen.cost is not None
    assert chosen.cost.queue_s == decision.estimated_wait_s == 6.0
    assert chosen.cost.total_s <= min((other.cost.total_s for other in others if other.cost is not None), default=60.0)


def test_reservations_are_told_as_they_were_before_the_decision() -> None:
    placer = placer_of(worker("w", "llama-7b"))
    for number in range(3):
        ask(placer, f"r{number}")
    assert [records_of(placer).of(f"r{number}")[0].considered[0].reserved for number in range(3)] == [0, 1, 2]


def test_what_became_of_it_is_added_when_the_worker_tells() -> None:
    placer = placer_of(worker("w", "llama-7b"))
    decision = ask(placer)
    assert records_of(placer).of("r")[0].outcome is None
    placer.settle("w", [DecisionOutcome(decision.decision_id, CacheResult.HIT)], 2.5)
    placer.settle("w", [DecisionOutcome(decision.decision_id, CacheResult.JOIN)], 9.0)  # told again after a lost stream
    [record] = records_of(placer).of("r")
    assert (record.outcome, record.settled_at) == (CacheResult.HIT, 2.5)


def test_a_later_report_does_not_change_what_was_seen() -> None:
    placer = placer_of(worker("w", "llama-7b", queue_depth=1, busy_slots=1))
    ask(placer)
    placer._view.apply(worker("w", "llama-7b", queue_depth=50, sequence=2), 2.0, is_streamed=True)
    assert records_of(placer).of("r")[0].considered[0].entry.state.queue_depth == 1


def test_retries_and_refusals_of_one_request_are_told_in_order() -> None:
    placer = placer_of(worker("one", "llama-7b"), worker("two", "llama-7b"))
    first = ask(placer)
    second = placer.decide(PlacementRequest("r", "llama-7b", excluded=frozenset({first.worker_id})), 2.0)
    refusal = NoWorkers("none is left")
    records_of(placer).refused(PlacementRequest("r", "llama-7b"), refusal, 3.0)
    assert [record.result for record in records_of(placer).of("r")] == [first, second, refusal]


@pytest.mark.parametrize("policy", policy_names())
def test_every_policy_is_recorded_with_its_choice_first_and_at_most_eight(policy: str) -> None:
    placer = placer_of(*(worker(f"w{number}", "llama-7b") for number in range(30)), policy=policy)
    decision = ask(placer)
    considered = records_of(placer).of("r")[0].considered
    assert considered[0].entry.state.node_id == decision.worker_id
    names = [each.entry.state.node_id for each in considered]
    assert len(names) == len(set(names)) <= MOST_CONSIDERED


@given(st.integers(1, 6), st.lists(st.integers(0, 4), max_size=40))
def test_the_last_ones_are_remembered_and_no_others(capacity: int, asked: list[int]) -> None:
    placer = placer_of(worker("w", "llama-7b"), capacity=capacity)
    for number in asked:
        ask(placer, f"r{number}")
    records = records_of(placer)
    kept = asked[-capacity:]
    assert len(records) == len(kept)
    for number in range(5):
        assert len(records.of(f"r{number}")) == kept.count(number)


@pytest.mark.parametrize("policy", policy_names())
def test_remembering_changes_no_decision(policy: str) -> None:
    def decisions(records: DecisionRecords | None) -> list[Decision]:
        view = ClusterView(catalogue=MODELS)
        placer = Placer(view, policy, rng=random.Random(3), decider="d", records=records)
        for number in range(5):
            view.apply(worker(f"w{number}", *(("llama-7b",) if number < 2 else ())), 0.0, is_streamed=True)
        return [ask(placer, f"r{number}", now=number / 10) for number in range(60)]

    assert decisions(None) == decisions(DecisionRecords(10))
