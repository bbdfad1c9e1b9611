"""What has failed on a worker: for how long it is passed over, what ends that, and that every policy keeps to it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from placement_cases import Case, worker

from roost.cluster.errors import NoWorkers
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import Failing, WorkerState
from roost.placement import facts
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered
from roost.placement.failures import HALF_OPEN_AFTER, JITTER, LONGEST_BACKOFF_S, Failures, backoff_s, strikes
from roost.placement.records import DecisionRecords
from roost.placement.registry import policy_names
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms

MODEL = "llama-7b"


def failing(loads: int = 0, calls: int = 0) -> dict[str, Failing]:
    return {MODEL: Failing(loads, calls, "no such file")}


@pytest.mark.parametrize(
    ("told", "at_most_s"),
    [
        (Failing(), 0.0),
        (Failing(1), 1.0),
        (Failing(2), 2.0),
        (Failing(5), 16.0),
        (Failing(9), 256.0),
        (Failing(10), 300.0),
        (Failing(2**32 - 1), 300.0),
        (Failing(0, HALF_OPEN_AFTER - 1), 0.0),
        (Failing(0, HALF_OPEN_AFTER), 1.0),
        (Failing(0, HALF_OPEN_AFTER + 3), 8.0),
        (Failing(1, HALF_OPEN_AFTER), 2.0),
    ],
)
def test_the_backoff_doubles_from_a_second_to_five_minutes(told: Failing, at_most_s: float) -> None:
    assert backoff_s(strikes(told)) == at_most_s


def told_in_turn(reports: Sequence[tuple[int, int]], seed: int) -> Failures:
    """A worker tells each second how many loads failed, and calls were lost, in a row."""
    failures, rng = Failures(), random.Random(seed)
    for second, (loads, calls) in enumerate(reports):
        told = failing(loads, calls) if loads or calls else {}
        failures.heard(worker("w", failing=told), float(second), rng)
    return failures


counts = st.tuples(st.integers(0, 12), st.integers(0, 12))


@given(st.lists(counts, min_size=1, max_size=20), st.integers(0, 2**32))
def test_whatever_was_told_a_bar_is_of_the_last_report_and_never_longer_than_its_backoff(reports: list[tuple[int, int]], seed: int) -> None:
    failures, last = told_in_turn(reports, seed), Failing(*reports[-1])
    passed = failures.told(MODEL)
    assert bool(passed) is bool(strikes(last))
    for each in passed:
        assert each.until <= len(reports) - 1 + backoff_s(max(strikes(Failing(*report)) for report in reports))
        assert each.until >= backoff_s(strikes(last)) * (1.0 - JITTER)


@given(st.lists(counts, min_size=1, max_size=20), st.integers(0, 2**32))
def test_failures_go_on_from_what_was_written_down(reports: list[tuple[int, int]], seed: int) -> None:
    failures, again = told_in_turn(reports, seed), Failures()
    again.go_on(failures.snapshot())
    assert (again.told(MODEL), again.snapshot()) == (failures.told(MODEL), failures.snapshot())


def test_a_report_that_says_the_same_again_bars_nobody_anew() -> None:
    failures, rng = Failures(), random.Random(1)
    failures.heard(worker("w", failing=failing(1)), 0.0, rng)
    first = failures.told(MODEL)
    failures.heard(worker("w", failing=failing(1)), 0.9, rng)
    assert failures.told(MODEL) == first


def test_what_a_later_life_does_not_tell_is_forgotten_and_so_is_a_worker_that_has_gone() -> None:
    view = ClusterView()
    decider = Decider(view, Terms("d"), rng=random.Random(1))
    decider.hear(facts.Reported(worker("a", failing=failing(3)), is_streamed=True), 0.0)
    assert [each.node_id for each in decider.placer.failures.told(MODEL)] == ["a"]
    decider.hear(facts.Reported(worker("a", epoch=2), is_streamed=True), 0.1)
    assert decider.placer.failures.by_model == {}
    decider.hear(facts.Reported(worker("a", epoch=2, sequence=2, failing=failing(1)), is_streamed=True), 0.2)
    decider.hear(facts.Forgotten("a"), 0.3)
    assert decider.placer.failures.by_model == {}


@pytest.mark.parametrize("policy", policy_names())
@pytest.mark.parametrize("plane", ["central", "gossip"])
def test_no_policy_asks_a_worker_whose_load_failed_before_its_backoff_is_over(policy: str, plane: str) -> None:
    decider = Decider(ClusterView(), Terms("d", policy, is_view_shared=plane == "gossip"), rng=random.Random(3))
    for state in (worker("bad", failing=failing(1)), worker("good", busy_slots=1, queue_depth=3)):
        decider.hear(facts.Reported(state, is_streamed=True), 0.0)
    early = {ask(decider, 0.5 * number / 20).worker_id for number in range(20)}
    assert early == {"good"}
    others = {ask(decider, 0.6, model="phi-2").worker_id for _ in range(20)}
    assert "bad" in others  # nothing is known against it there


def ask(decider: Decider, now: float, model: str = MODEL, **fields: object) -> Decision:
    decision = decider.ask(PlacementRequest("r", model, **fields), now)  # type: ignore[arg-type]
    assert isinstance(decision, Decision)
    return decision


@pytest.mark.parametrize("policy", policy_names())
def test_after_the_backoff_it_is_tried_with_one_request_at_a_time(policy: str) -> None:
    case = Case(policy, [worker("bad", failing=failing(1)), worker("good", queue_depth=30)])
    tried = [case.decide(now=1.01).worker_id for _ in range(20)]
    assert tried.count("bad") <= 1
    case = Case(policy, [worker("bad", failing=failing(1))])
    assert case.decide(now=1.01).worker_id == "bad"
    with pytest.raises(NoWorkers, match=r"1 passed over because llama-7b fails there; bad is being tried now: 1 load in a row failed"):
        case.decide(now=1.02)


def test_a_worker_that_loses_calls_is_half_open_after_three_and_open_to_all_when_one_goes_well() -> None:
    def at(sequence: int, calls: int) -> list[WorkerState]:
        told = failing(calls=calls) if calls else {}
        return [worker("breaks", MODEL, sequence=sequence, failing=told), worker("far", sequence=sequence, queue_depth=20, busy_slots=1)]

    case = Case("affinity", at(1, HALF_OPEN_AFTER - 1))
    assert case.decide().worker_id == "breaks"
    for state in at(2, HALF_OPEN_AFTER):
        case.view.apply(state, 1.0, is_streamed=True)
    assert [case.decide(now=now).worker_id for now in (1.1, 1.5)] == ["far", "far"]
    case.placer.advance(10.0)
    assert [case.decide(now=10.0).worker_id for _ in range(3)] == ["breaks", "far", "far"]
    for state in at(3, 0):
        case.view.apply(state, 11.0, is_streamed=True)
    assert [case.decide(now=20.0).worker_id for _ in range(3)] == ["breaks"] * 3


def answers(decider: Decider) -> list[Answered]:
    return [effect for effect in decider.effects() if isinstance(effect, Answered)]


def alone(loads: int, **terms: object) -> Decider:
    decider = Decider(ClusterView(), Terms("d", **terms), rng=random.Random(1), records=DecisionRecords())  # type: ignore[arg-type]
    decider.hear(facts.Reported(worker("only", failing=failing(loads)), is_streamed=True), 0.0)
    return decider


def test_who_may_wait_waits_for_the_one_whose_backoff_ends_first() -> None:
    decider = alone(3)
    decider.hear(facts.Reported(worker("sooner", failing=failing(1)), is_streamed=True), 0.0)
    ticket = decider.ask(PlacementRequest("r", MODEL, may_queue=True), 0.0)
    assert isinstance(ticket, Ticket)
    decider.handle_timer(0.0)
    due = decider.next_timer()
    assert due is not None
    assert 1.0 - JITTER <= due <= 1.0
    decider.handle_timer(due)
    (answered,) = answers(decider)
    assert isinstance(answered.result, Decision)
    assert (answered.ticket, answered.result.worker_id) == (ticket, "sooner")


def test_who_may_not_wait_is_told_why_and_when_to_ask_again() -> None:
    decider = alone(4)
    with pytest.raises(
        NoWorkers,
        match="1 worker known: 1 passed over because llama-7b fails there; only is tried again in",
    ) as refused:
        decider.ask(PlacementRequest("r", MODEL), 0.0)
    assert 8.0 * (1.0 - JITTER) <= refused.value.retry_after_s <= 8.0
    (record,) = decider.records.of("r")  # type: ignore[union-attr]
    assert [(each.node_id, each.why) for each in record.passed_over] == [("only", "4 loads in a row failed (no such file)")]


@pytest.mark.parametrize(("loads", "deadline_s"), [(4, 2.0), (10, 0.0)])
def test_a_backoff_that_ends_after_the_deadline_or_the_longest_wait_is_not_waited_for(loads: int, deadline_s: float) -> None:
    decider = alone(loads)
    with pytest.raises(NoWorkers, match="only is tried again in"):
        decider.ask(PlacementRequest("r", MODEL, may_queue=True, deadline_s=deadline_s), 0.0)
    assert decider.next_timer() is None


def test_who_waits_hears_at_once_when_the_next_try_is_too_far_off() -> None:
    decider = alone(1)
    decider.ask(PlacementRequest("r", MODEL, may_queue=True, deadline_s=5.0), 0.0)
    decider.hear(facts.Reported(worker("only", sequence=2, failing=failing(6)), is_streamed=True), 0.1)
    (answered,) = answers(decider)
    assert isinstance(answered.result, NoWorkers)


def test_who_waits_goes_at_once_to_a_worker_that_forgets_its_failures() -> None:
    decider = alone(5)
    decider.ask(PlacementRequest("r", MODEL, may_queue=True), 0.0)
    decider.handle_timer(0.0)
    assert answers(decider) == []
    decider.hear(facts.Reported(worker("only", sequence=2), is_streamed=True), 0.2)
    (answered,) = answers(decider)
    assert isinstance(answered.result, Decision)


def test_while_nobody_is_there_a_request_waits_as_before() -> None:
    decider = Decider(ClusterView(), Terms("d"), rng=random.Random(1))
    with pytest.raises(NoWorkers):
        decider.ask(PlacementRequest("r", MODEL), 0.0)
    assert decider.placer.barred_for_s(PlacementRequest("r", MODEL), 0.0) == math.inf


def test_a_decision_tells_who_was_passed_over_for_it() -> None:
    decider = alone(2)
    decider.hear(facts.Reported(worker("good"), is_streamed=True), 0.0)
    ask(decider, 0.1)
    (record,) = decider.records.of("r")  # type: ignore[union-attr]
    assert [each.node_id for each in record.passed_over] == ["only"]
    assert 2.0 * (1.0 - JITTER) <= record.passed_over[0].until <= LONGEST_BACKOFF_S
