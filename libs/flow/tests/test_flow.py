"""One generation in tables: what it asks for, whom it leaves out, when it gives up. Time is a number, chance a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

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
    ServerStopping,
    StaleAttempt,
    UnknownModel,
    WorkerDraining,
)
from roost.flow.backoff import Backoff
from roost.flow.effects import Ask, Call, Effect, Emit, Fail, Pause
from roost.flow.errors import CallTimedOut, ClusterUnreachable, Failure, GenerationInterrupted, NoWorkerTookIt
from roost.flow.flow import Flow
from roost.flow.heard import Decided, Declined, Heard, Lost, Refused, Unreachable
from roost.flow.setbacks import setback_of
from roost.flow.steps import (
    Accepted,
    Completed,
    Exactness,
    FinishReason,
    Phase,
    Progress,
    Resumed,
    ResumePolicy,
    Started,
    Timings,
    Token,
    Usage,
)
from roost.flow.table import TABLE, Happening, NoRow, State, diagram, rows_table
from roost.flow.terms import MAX_RESUMES, RETURN_S, SILENCE_S, Terms
from roost.flow.told import Told


@dataclass(frozen=True)
class To:
    worker_id: str


AFlow = Flow[str, To]
AnEffect = Effect[str, To]
AnEvent = Heard[To]
ACCEPTED = Accepted("r1", "a", None, 0)
COMPLETED = Completed(FinishReason.STOP, Usage(1, 1), Timings(), None)
HEL, LO = Token(0, 1, "Hel"), Token(1, 2, "lo")
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
    assert call == Call(To("a"), attempt=1, previous="", waited_s=0.5, answer_s=SILENCE_S, timeout_s=19.5)
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


# --- after the first token ------------------------------------------------------------------------


def streaming(terms: Terms | None = None, accepted: Accepted = ACCEPTED) -> AFlow:
    """Two tokens are told."""
    flow = flow_of(terms)
    for heard in (Decided(To("a")), accepted, HEL, LO):
        flow.hear(heard, 0.1)
    return flow


def resumed(flow: AFlow, exactness: Exactness = Exactness.EXACT, why: str = "", *, worker_id: str = "b") -> AnEffect:
    """Another worker goes on."""
    _, now = asked_again(flow, Lost("Socket closed"), 0.2)
    flow.hear(Decided(To(worker_id)), now)
    flow.hear(replace(ACCEPTED, worker_id=worker_id, seed=9, fingerprint="of another", resumed_from=flow.told), now)
    return flow.hear(Started("of another", exactness, why), now)


@pytest.mark.parametrize(
    "trouble",
    [
        Lost("Socket closed"),
        declined(EngineFailed("m", "died")),
        declined(ServerStopping("worker a")),
        declined(StaleAttempt(1, 2)),
        Token(3, 1, "gap"),
        Token(1, 1, "again"),
    ],
)
def test_a_stream_whose_worker_fails_goes_on_elsewhere_from_the_last_token(trouble: AnEvent) -> None:
    flow = streaming(accepted=replace(ACCEPTED, seed=7, fingerprint="engine=e"))
    ask, now = asked_again(flow, trouble, 0.2)
    assert (ask.excluded, ask.may_wait) == (frozenset({"a"}), False)
    call = flow.hear(Decided(To("b")), now)
    assert isinstance(call, Call)
    assert (call.attempt, call.seed) == (2, 7)
    assert call.told == Told((HEL, LO), "engine=e", 0, Exactness.UNKNOWN, "")
    flow.hear(replace(ACCEPTED, worker_id="b", resumed_from=2), now)
    assert flow.hear(Started("engine=e", Exactness.EXACT), now) == Emit(Resumed("a", "b", 2, Exactness.EXACT))
    assert flow.hear(Token(2, 3, "!"), now) == Emit(Token(2, 3, "!"))
    assert flow.hear(COMPLETED, now) == Emit(COMPLETED)


def test_seed_and_fingerprint_are_those_of_the_worker_that_told_the_first_token() -> None:
    flow = flow_of()
    for worker_id in "ab":
        flow.hear(Decided(To(worker_id)), 0.1)
        flow.hear(replace(ACCEPTED, seed=ord(worker_id)), 0.1)
        flow.hear(Started(f"of {worker_id}", Exactness.EXACT), 0.1)
        if worker_id == "a":
            asked_again(flow, Lost("Socket closed"), 0.1)
    flow.hear(HEL, 0.2)
    resumed(flow, worker_id="c")
    _, now = asked_again(flow, Lost("Socket closed"), 0.6)
    call = flow.hear(Decided(To("d")), now)
    assert isinstance(call, Call)
    assert call.told is not None
    assert (call.seed, call.told.fingerprint, call.told.resumes) == (ord("b"), "of b", 1)


def test_what_was_approximate_once_is_told_to_whoever_goes_on_next() -> None:
    flow = streaming()
    assert resumed(flow, Exactness.APPROXIMATE, "other weights") == Emit(Resumed("a", "b", 2, Exactness.APPROXIMATE, "other weights"))
    flow.hear(Token(2, 3, "!"), 0.4)
    _, now = asked_again(flow, Lost("Socket closed"), 0.5)
    call = flow.hear(Decided(To("c")), now)
    assert isinstance(call, Call)
    assert call.told == Told((HEL, LO, Token(2, 3, "!")), "", 1, Exactness.APPROXIMATE, "other weights")


def test_a_token_without_an_id_leaves_only_the_text_to_go_on_from() -> None:
    told = Told((HEL, Token(1, -1, "lo")), "", 0, Exactness.UNKNOWN, "")
    assert (told.ids, told.text) == ((), "Hello")
    assert Told((HEL, LO), "", 0, Exactness.UNKNOWN, "").ids == (1, 2)


def test_a_worker_that_would_begin_anew_is_not_listened_to_and_stays_left_out() -> None:
    flow = streaming()
    _, now = asked_again(flow, Lost("Socket closed"), 0.2)
    flow.hear(Decided(To("old")), now)
    ask, now = asked_again(flow, ACCEPTED, now)
    assert ask.excluded == {"a", "old"}
    ask, now = asked_again(flow, Refused(NoWorkers("every worker is excluded", 1.0)), now)
    assert ask.excluded == {"old"}
    while isinstance(effect := flow.hear(Refused(NoWorkers("every worker is excluded", 1.0)), now), Pause):
        now = flow.next_timer()
        flow.handle_timer(now)
    assert isinstance(error_of(effect), GenerationInterrupted)
    assert RETURN_S <= now <= RETURN_S + 2.0, "one that can go on may come back meanwhile"


def test_who_wants_exact_text_goes_on_with_no_worker_that_says_it_would_not_be() -> None:
    flow = streaming(Terms(20.0, resume=ResumePolicy.EXACT))
    assert isinstance(resumed(flow, Exactness.APPROXIMATE, "other weights"), Pause)
    assert flow.state is State.WAITING
    flow = streaming(Terms(20.0, resume=ResumePolicy.EXACT))
    assert isinstance(resumed(flow), Emit)


@pytest.mark.parametrize("trouble", [Lost("Socket closed"), declined(EngineFailed("m", "died"))])
def test_what_is_never_to_be_continued_ends_with_the_text_so_far(trouble: AnEvent) -> None:
    error = error_of(streaming(Terms(20.0, resume=ResumePolicy.NEVER)).hear(trouble, 0.2))
    assert isinstance(error, GenerationInterrupted)
    assert (error.text, error.worker_id) == ("Hello", "a")


def test_what_no_worker_would_continue_ends_with_the_text_so_far() -> None:
    error = error_of(streaming().hear(declined(InvalidField("x", "y")), 0.2))
    assert isinstance(error, GenerationInterrupted)
    assert error.text == "Hello"
    assert isinstance(error.__cause__, InvalidField)


def test_after_the_first_token_other_workers_are_asked_however_many_attempts_there_were_but_not_without_end() -> None:
    flow, now, calls = streaming(Terms(600.0, max_attempts=1)), 0.2, 0
    while isinstance(effect := flow.hear(Lost("Socket closed"), now), Pause):
        now = flow.next_timer()
        flow.handle_timer(now)
        flow.hear(Decided(To(f"w{calls}")), now)
        calls += 1
    error = error_of(effect)
    assert isinstance(error, GenerationInterrupted)
    assert (error.text, calls) == ("Hello", MAX_RESUMES)


def test_a_stream_that_finds_nobody_ends_by_its_deadline_with_the_text_so_far() -> None:
    flow, effect = streaming(), None
    _, now = asked_again(flow, Lost("Socket closed"), 0.2)
    while isinstance(effect := flow.hear(Refused(NoWorkers("none is left", 1.0)), now), Pause):
        now = flow.next_timer()
        flow.handle_timer(now)
    error = error_of(effect)
    assert isinstance(error, GenerationInterrupted)
    assert error.text == "Hello"
    assert "none is left" in str(error.__cause__.__cause__ if error.__cause__ else "")


# --- silence --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sign",
    [
        replace(ACCEPTED, fingerprint="engine=e"),
        replace(ACCEPTED, seed=0),
        Progress(Phase.LOADING),
        Started("engine=e", Exactness.EXACT),
    ],
)
@pytest.mark.parametrize("has_token", [False, True])
def test_a_worker_that_speaks_every_second_and_falls_silent_is_lost(sign: AnEvent, *, has_token: bool) -> None:
    flow = flow_of()
    flow.hear(Decided(To("a")), 0.1)
    if not isinstance(sign, Accepted):
        flow.hear(ACCEPTED, 0.2)
    flow.hear(sign, 0.5)
    if has_token:
        flow.hear(HEL, 0.5)
    assert flow.next_timer() == 0.5 + SILENCE_S
    assert isinstance(flow.hear(Progress(Phase.DECODE), 2.0), Emit)
    assert flow.next_timer() == 2.0 + SILENCE_S
    assert isinstance(flow.handle_timer(2.0 + SILENCE_S), Pause)
    assert flow.state is (State.RESUMING if has_token else State.WAITING)
    ask = flow.handle_timer(flow.next_timer())
    assert isinstance(ask, Ask)
    assert ask.excluded == {"a"}


def test_a_worker_that_never_says_how_it_stands_may_be_silent_until_the_deadline() -> None:
    flow = flow_of()
    for heard in (Decided(To("a")), ACCEPTED, HEL):
        flow.hear(heard, 0.1)
    assert flow.next_timer() == 20.0


def test_while_the_caller_is_busy_no_worker_is_silent() -> None:
    flow = flow_of(Terms(60.0))
    for heard in (Decided(To("a")), replace(ACCEPTED, seed=1), HEL):
        flow.hear(heard, 0.1)
    flow.listens(30.0)
    assert flow.next_timer() == 30.0 + SILENCE_S


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
    assert str(error) == "a was lost after 1 tokens: the generation did not end within 20 s"


def test_a_deadline_while_nobody_answers_names_who_did_not() -> None:
    flow = flow_of()
    asked_again(flow, UNREACHABLE, 1.0)
    assert isinstance(error_of(flow.handle_timer(20.0)), ClusterUnreachable)


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"timeout_s": 1.0, "max_attempts": 0}, "max_attempts"),
        ({"timeout_s": 1.0, "silence_s": 1.0}, "silence_s"),
    ],
)
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
    Happening.STARTED: Started("engine=e", Exactness.EXACT),
    Happening.PROGRESS: Progress(Phase.DECODE),
    Happening.COMPLETED: COMPLETED,
    Happening.DECLINED: declined(WorkerDraining("a")),
    Happening.LOST: Lost("Socket closed"),
}


@given(st.lists(st.integers(0, 2**16), min_size=60, max_size=60), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32))
def test_every_story_ends_by_its_deadline_with_an_answer_or_an_error_and_tells_each_token_once(
    story: list[int], most: int, deciders: int, seed: int
) -> None:
    policy = (ResumePolicy.FAST, ResumePolicy.EXACT, ResumePolicy.NEVER)[seed % 3]
    flow = flow_of(Terms(3.0, max_attempts=most, resume=policy), tuple(f"d{number}" for number in range(deciders)), seed=seed)
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
        elif happening is Happening.ACCEPTED:
            effect = flow.hear(replace(ACCEPTED, seed=1 if number % 3 else None, resumed_from=len(told)), now)
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
