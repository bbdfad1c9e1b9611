"""One generation in tables: what it asks for, whom it leaves out, when it gives up. Time is a number, chance a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.errors import (
    DeadlineImpossible,
    EngineFailed,
    InvalidField,
    ModelLoadFailed,
    NoCapacity,
    NoWorkers,
    RoostError,
    UnknownModel,
    WorkerDraining,
)
from roost.flow.backoff import Backoff
from roost.flow.effects import Ask, Call, Effect, Emit, Fail, Pause
from roost.flow.errors import CallTimedOut, ClusterUnreachable, Failure, GenerationInterrupted, NoWorkerTookIt
from roost.flow.flow import Flow
from roost.flow.heard import Decided, Declined, Heard, Lost, Refused, Unreachable
from roost.flow.setbacks import setback_of
from roost.flow.steps import Accepted, Completed, FinishReason, Timings, Token, Usage
from roost.flow.table import TABLE, Happening, NoRow, State, diagram, rows_table
from roost.flow.terms import ACCEPT_TIMEOUT_S, Terms


@dataclass(frozen=True)
class To:
    worker_id: str


AFlow = Flow[str, To]
AnEffect = Effect[str, To]
AnEvent = Heard[To]
ACCEPTED = Accepted("r1", "a", None, 0)
COMPLETED = Completed(FinishReason.STOP, Usage(1, 1), Timings(), None)
UNREACHABLE = Unreachable(Failure("d1", "Connection refused"))


def flow_of(terms: Terms | None = None, targets: tuple[str, ...] = ("d1",), *, served_s: float = 0.0, seed: int = 1) -> AFlow:
    flow: AFlow = Flow(terms or Terms(20.0), targets, random.Random(seed), 0.0, served_s=served_s)
    assert isinstance(flow.begin(), Ask)
    return flow


def first_ask(terms: Terms, targets: tuple[str, ...] = ("d1",), *, served_s: float = 0.0) -> Ask[str]:
    flow: AFlow = Flow(terms, targets, random.Random(1), 0.0, served_s=served_s)
    ask = flow.begin()
    assert isinstance(ask, Ask)
    return ask


def declined(error: RoostError, wish_s: float = 0.0) -> Declined:
    return Declined(error, setback_of(error), wish_s)


def asked_again(flow: AFlow, heard: AnEvent, now: float) -> tuple[Ask[str], float]:
    """What it asks after the pause that this causes, and when."""
    pause = flow.hear(heard, now)
    assert isinstance(pause, Pause)
    at = flow.next_timer()
    assert at == pytest.approx(now + pause.wait_s)
    ask = flow.handle_timer(at)
    assert isinstance(ask, Ask)
    return ask, at


def error_of(effect: AnEffect) -> RoostError:
    assert isinstance(effect, Fail)
    return effect.error


# --- the way that goes well -----------------------------------------------------------------------


def test_a_generation_is_decided_called_and_handed_on_step_by_step() -> None:
    flow = flow_of()
    call = flow.hear(Decided(To("a")), 0.5)
    assert call == Call(To("a"), attempt=1, previous="", waited_s=0.5, answer_s=ACCEPT_TIMEOUT_S, timeout_s=19.5)
    steps: list[Accepted | Token | Completed] = [ACCEPTED, Token(0, 7, "Hi"), Token(1, 8, "!"), COMPLETED]
    assert [flow.hear(step, 1.0) for step in steps] == [Emit(step) for step in steps]
    assert flow.is_over
    assert flow.state is State.DONE


def test_a_decider_is_told_by_when_it_must_have_begun_only_where_the_caller_set_a_bound() -> None:
    asks = [first_ask(Terms(20.0, is_told=is_told), served_s=3.0) for is_told in (True, False)]
    assert [ask.deadline_s for ask in asks] == [17.0, 0.0]


def test_a_generation_that_is_known_to_take_longer_than_there_is_time_still_has_half_of_it() -> None:
    assert first_ask(Terms(4.0, is_told=True), served_s=300.0).deadline_s == 2.0


# --- deciders -------------------------------------------------------------------------------------


def test_each_decider_is_asked_in_turn_and_then_all_again_after_a_pause() -> None:
    flow = flow_of(targets=("d1", "d2"))
    second = flow.hear(UNREACHABLE, 0.1)
    assert isinstance(second, Ask)
    assert second.target == "d2"
    pause = flow.hear(Unreachable(Failure("d2", "no answer")), 0.2)
    assert isinstance(pause, Pause)
    assert str(pause.cause) == "no answer from d1: Connection refused; d2: no answer"
    first_again = flow.handle_timer(flow.next_timer())
    assert isinstance(first_again, Ask)
    assert first_again.target == "d1"


def test_each_decider_has_its_share_of_the_time_to_be_reached() -> None:
    ask = first_ask(Terms(2.0), ("d1", "d2"))
    assert (ask.reach_s, ask.timeout_s) == (1.0, 2.0)


@given(st.integers(0, 2**32), st.floats(0.5, 700))
def test_deciders_that_do_not_answer_are_asked_until_the_deadline_and_never_after(seed: int, timeout_s: float) -> None:
    flow = flow_of(Terms(timeout_s), seed=seed)
    now, pauses = 0.0, []
    while isinstance(effect := flow.hear(UNREACHABLE, now), Pause):
        pauses.append((now, effect.wait_s))
        now = flow.next_timer()
        flow.handle_timer(now)
    assert isinstance(error_of(effect), ClusterUnreachable)
    assert timeout_s - 2.0 <= now <= timeout_s
    assert all(wait_s <= (0.5 if at < 10 else 2.0) for at, wait_s in pauses)


def test_a_decider_that_comes_back_serves_the_request() -> None:
    flow = flow_of(Terms(20.0, is_told=True))
    ask, now = asked_again(flow, UNREACHABLE, 1.0)
    assert (ask.excluded, ask.may_wait) == (frozenset(), True)
    assert ask.deadline_s == pytest.approx(20.0 - now)
    assert isinstance(flow.hear(Decided(To("a")), now), Call)


@pytest.mark.parametrize("refusal", [NoCapacity("1000 requests wait", 1.0), NoWorkers("none came", 1.0)])
def test_a_decider_without_room_or_workers_is_asked_when_it_wishes_until_the_deadline(refusal: RoostError) -> None:
    flow = flow_of(Terms(600.0, max_attempts=1))
    now, waits = 0.0, []
    while isinstance(effect := flow.hear(Refused(refusal), now), Pause):
        waits.append(effect.wait_s)
        now = flow.next_timer()
        ask = flow.handle_timer(now)
        assert isinstance(ask, Ask)
        assert ask.may_wait == isinstance(refusal, NoCapacity), "nobody waits twice for a worker that did not come"
    assert error_of(effect) is refusal
    assert now > 598.0
    assert all(1.0 <= wait_s <= 2.0 for wait_s in waits)


def test_a_wish_that_leaves_no_time_ends_it_at_once_in_the_deciders_words() -> None:
    refusal = NoCapacity("1000 requests wait", 5.0)
    assert error_of(flow_of(Terms(2.0)).hear(Refused(refusal), 0.1)) is refusal


@pytest.mark.parametrize("refusal", [UnknownModel("x"), InvalidField("model", "is bad"), DeadlineImpossible(1.0, 9.0)])
def test_what_a_decider_refuses_for_good_is_told_at_once(refusal: RoostError) -> None:
    assert error_of(flow_of().hear(Refused(refusal), 0.1)) is refusal


# --- workers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [Lost("Socket closed"), declined(WorkerDraining("a")), declined(EngineFailed("m", "died")), declined(NoCapacity("full", 9.0))],
)
@pytest.mark.parametrize("is_accepted", [False, True])
def test_a_worker_that_fails_before_the_first_token_is_left_out_and_nobody_waits(trouble: AnEvent, *, is_accepted: bool) -> None:
    flow = flow_of()
    flow.hear(Decided(To("a")), 0.0)
    if is_accepted:
        flow.hear(ACCEPTED, 0.1)
    ask, now = asked_again(flow, trouble, 0.2)
    assert (ask.excluded, ask.may_wait) == (frozenset({"a"}), False)
    assert now < 0.3, "a worker's wish concerns it alone"
    call = flow.hear(Decided(To("b")), now)
    assert isinstance(call, Call)
    assert (call.attempt, call.previous.startswith("a: ")) == (2, True)


def test_workers_are_called_as_often_as_was_said_and_each_failure_is_named() -> None:
    flow, now = flow_of(Terms(20.0, max_attempts=2)), 0.0
    flow.hear(Decided(To("a")), now)
    _, now = asked_again(flow, Lost("Socket closed"), now)
    flow.hear(Decided(To("b")), now)
    error = error_of(flow.hear(declined(WorkerDraining("b")), now))
    assert isinstance(error, NoWorkerTookIt)
    assert [failure.who for failure in error.failures] == ["a", "b"]
    assert str(error).endswith("gave up after 2 attempts")


def test_who_was_left_out_is_let_in_again_when_there_is_nobody_else() -> None:
    flow = flow_of()
    flow.hear(Decided(To("a")), 0.0)
    _, now = asked_again(flow, Lost("Socket closed"), 0.0)
    again, later = asked_again(flow, Refused(NoWorkers("every worker is excluded", 1.0)), now)
    assert (again.excluded, again.may_wait) == (frozenset(), True)
    assert later - now >= 1.0


def test_a_busy_workers_wish_is_waited_for_only_when_nobody_else_is_left() -> None:
    flow = flow_of()
    flow.hear(Decided(To("a")), 0.0)
    _, now = asked_again(flow, declined(NoCapacity("full", 5.0), 5.0), 0.0)
    assert now < 0.1
    _, later = asked_again(flow, Refused(NoWorkers("every worker is excluded", 1.0)), now)
    assert 5.0 <= later - now <= 6.25


def test_a_model_that_one_worker_cannot_load_is_asked_of_another() -> None:
    flow = flow_of()
    flow.hear(Decided(To("a")), 0.0)
    ask, now = asked_again(flow, declined(ModelLoadFailed("m", "corrupt")), 0.0)
    assert ask.excluded == {"a"}
    assert isinstance(flow.hear(Decided(To("b")), now), Call)


def test_a_model_that_nobody_can_load_is_told_in_the_workers_words() -> None:
    flow, failure = flow_of(), ModelLoadFailed("m", "corrupt")
    flow.hear(Decided(To("a")), 0.0)
    _, now = asked_again(flow, declined(failure), 0.0)
    assert error_of(flow.hear(Refused(NoWorkers("every worker is excluded", 1.0)), now)) is failure


def test_a_worker_that_cannot_load_stays_left_out_when_others_are_let_in() -> None:
    flow = flow_of()
    flow.hear(Decided(To("a")), 0.0)
    _, now = asked_again(flow, declined(ModelLoadFailed("m", "corrupt")), 0.0)
    flow.hear(Decided(To("b")), now)
    _, now = asked_again(flow, Lost("Socket closed"), now)
    ask, _ = asked_again(flow, Refused(NoWorkers("every worker is excluded", 1.0)), now)
    assert ask.excluded == {"a"}


def test_what_every_worker_would_refuse_is_told_at_once() -> None:
    flow, refusal = flow_of(), InvalidField("max_tokens", "is too large")
    flow.hear(Decided(To("a")), 0.0)
    assert error_of(flow.hear(declined(refusal), 0.1)) is refusal


@pytest.mark.parametrize("trouble", [Lost("Socket closed"), declined(EngineFailed("m", "died")), declined(InvalidField("x", "y"))])
def test_a_loss_after_the_first_token_carries_the_text_so_far(trouble: AnEvent) -> None:
    flow = flow_of()
    for heard in (Decided(To("a")), ACCEPTED, Token(0, 1, "Hel"), Token(1, 2, "lo")):
        flow.hear(heard, 0.1)
    error = error_of(flow.hear(trouble, 0.2))
    assert isinstance(error, GenerationInterrupted)
    assert (error.text, error.worker_id) == ("Hello", "a")


def test_a_gap_in_the_tokens_is_a_loss() -> None:
    flow = flow_of()
    flow.hear(Decided(To("a")), 0.0)
    flow.hear(ACCEPTED, 0.0)
    asked_again(flow, Token(5, 1, "x"), 0.1)
    assert flow.state is State.ASKING


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "kind"),
    [([], CallTimedOut), ([Decided(To("a"))], CallTimedOut), ([Decided(To("a")), ACCEPTED], CallTimedOut)],
    ids=["asking", "calling", "accepted"],
)
def test_it_ends_by_its_deadline_wherever_it_is(heard: list[AnEvent], kind: type[RoostError]) -> None:
    flow = flow_of()
    for one in heard:
        flow.hear(one, 0.1)
    assert flow.next_timer() == 20.0
    assert isinstance(error_of(flow.handle_timer(20.0)), kind)


def test_a_deadline_after_the_first_token_carries_the_text() -> None:
    flow = flow_of()
    for heard in (Decided(To("a")), Token(0, 1, "Hel")):
        flow.hear(heard, 0.1)
    error = error_of(flow.handle_timer(20.0))
    assert isinstance(error, GenerationInterrupted)
    assert str(error) == "a was lost after 1 tokens: did not answer in time"


def test_a_deadline_while_nobody_answers_names_who_did_not() -> None:
    flow = flow_of()
    asked_again(flow, UNREACHABLE, 1.0)
    assert isinstance(error_of(flow.handle_timer(20.0)), ClusterUnreachable)


@pytest.mark.parametrize(("terms", "field"), [({"timeout_s": 0.0}, "timeout_s"), ({"timeout_s": 1.0, "max_attempts": 0}, "max_attempts")])
def test_terms_that_cannot_be_kept_are_named(terms: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        Terms(**terms)  # type: ignore[arg-type]
    assert caught.value.field == field


@given(st.integers(0, 1000), st.floats(0, 1e6), st.floats(0, 100), st.randoms(use_true_random=False))
def test_a_wait_is_bounded_and_never_shorter_than_a_wish_within_bounds(retry: int, wish_s: float, age_s: float, rng: random.Random) -> None:
    wait_s = Backoff().wait_s(retry, rng, age_s=age_s, server_wish_s=wish_s)
    assert min(wish_s, 10.0) <= wait_s <= 12.5


# --- the table ------------------------------------------------------------------------------------


def test_what_cannot_happen_is_an_error_that_names_state_and_event() -> None:
    with pytest.raises(NoRow, match="a generation that is ASKING cannot hear 'token'"):
        flow_of().hear(Token(0, 1, "x"), 0.0)


def test_every_state_can_be_reached_and_left_but_the_last_two() -> None:
    reached = {State.ASKING} | {row.to for row in TABLE.values()}
    left = {state for state, _ in TABLE}
    assert reached == set(State)
    assert set(State) - left == {State.DONE, State.FAILED}


def test_the_diagram_and_the_rows_show_the_whole_table() -> None:
    drawn = diagram()
    for (state, happening), row in TABLE.items():
        arrows = [line for line in drawn.splitlines() if line.startswith(f"    {state.value} --> {row.to.value}:")]
        assert any(happening.value in arrow for arrow in arrows)
    assert rows_table().count("\n") == len(TABLE) + 1


HEARD: dict[Happening, AnEvent] = {
    Happening.DECIDED: Decided(To("a")),
    Happening.REFUSED: Refused(NoWorkers("none")),
    Happening.DENIED: declined(InvalidField("x", "y")),
    Happening.UNREACHABLE: UNREACHABLE,
    Happening.ACCEPTED: ACCEPTED,
    Happening.COMPLETED: COMPLETED,
    Happening.DECLINED: declined(WorkerDraining("a")),
    Happening.LOST: Lost("Socket closed"),
}


@given(st.lists(st.integers(0, 2**16), min_size=60, max_size=60), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32))
def test_every_story_ends_by_its_deadline_with_an_answer_or_an_error_and_tells_each_token_once(
    story: list[int], most: int, deciders: int, seed: int
) -> None:
    flow = flow_of(Terms(3.0, max_attempts=most), tuple(f"d{number}" for number in range(deciders)), seed=seed)
    now, effect = 0.0, None
    told: list[int] = []
    for number in story:
        possible = [happening for state, happening in TABLE if state is flow.state]
        happening = possible[number % len(possible)]
        if happening in {Happening.ALL_TRIED, Happening.GAVE_UP}:
            continue
        if happening in {Happening.PAUSE_OVER, Happening.DEADLINE}:
            now = flow.next_timer()
            effect = flow.handle_timer(now)
        elif happening is Happening.TOKEN:
            effect = flow.hear(Token(len(told), 1, "x"), now)
        elif happening is Happening.DENIED and flow.state is State.ASKING:
            effect = flow.hear(Refused(UnknownModel("x")), now)
        else:
            effect = flow.hear(HEARD[happening], now)
        if isinstance(effect, Emit) and isinstance(effect.step, Token):
            told.append(effect.step.index)
        assert now <= 3.0
        if flow.is_over:
            break
    assert told == list(range(len(told)))
    assert flow.is_over == (flow.state in {State.DONE, State.FAILED})
    assert isinstance(effect, Fail) == (flow.state is State.FAILED)
