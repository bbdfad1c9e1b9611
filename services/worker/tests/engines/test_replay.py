"""How a generation is brought back to where it was, without a model."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.errors import InvalidField
from roost.worker.engines.interface import Resume, ResumePolicy
from roost.worker.engines.replay import FAST_REPLAY_S, ReadingPlan, Replay, difference, replay_of

HERE = "engine=llamacpp;model=aa;batch=64"


def pieces(plan: ReadingPlan, seconds_per_piece: float = 0.0) -> list[list[int]]:
    read, now = [], 0.0
    while not plan.is_done:
        read.append(list(plan.next_piece(now)))
        now += seconds_per_piece
    return read


def test_nothing_is_replayed_where_nothing_was_told() -> None:
    assert replay_of(None, HERE) == Replay()


def test_the_same_engine_replays_ids_exactly() -> None:
    replay = replay_of(Resume(2, (5, 6), " a b", HERE, ResumePolicy.EXACT), HERE)
    assert replay == Replay(ids=(5, 6), exactly_within_s=math.inf)
    assert replay_of(Resume(2, (5, 6), fingerprint=HERE), HERE).exactly_within_s == FAST_REPLAY_S


def test_another_engine_with_the_same_weights_replays_ids_and_says_what_differs() -> None:
    replay = replay_of(Resume(2, (5, 6), fingerprint=HERE, policy=ResumePolicy.EXACT), HERE.replace("64", "128"))
    assert (replay.ids, replay.exactly_within_s) == ((5, 6), 0.0)
    assert replay.approximate_because == "another engine began: batch was 64 and is 128"


def test_an_engine_with_other_weights_goes_on_from_the_text_and_needs_it() -> None:
    elsewhere = HERE.replace("aa", "bb")
    assert replay_of(Resume(2, (5, 6), " a b", elsewhere), HERE).text == " a b"
    with pytest.raises(InvalidField, match="of other weights") as refusal:
        replay_of(Resume(2, (5, 6), "", elsewhere), HERE)
    assert refusal.value.field == "generated.text"


@pytest.mark.parametrize(
    ("resume", "because"),
    [
        (Resume(2, (5, 6)), "the fingerprint of the engine that began is not given"),
        (Resume(2, (), " a b", HERE), "what was told is known by its text only"),
    ],
)
def test_what_is_not_known_makes_a_continuation_approximate(resume: Resume, because: str) -> None:
    assert replay_of(resume, HERE).approximate_because == because


def test_fingerprints_differ_in_named_parts() -> None:
    assert difference(HERE, HERE) == ()
    assert difference(HERE, "model=aa;batch=32;engine=other;more=1") == ("batch", "engine", "more")
    assert difference("", HERE) == ("fingerprint",)


def test_the_prompt_is_read_in_chunks_and_the_generated_tokens_one_by_one() -> None:
    plan = ReadingPlan([1, 2, 3, 4, 5], Replay(ids=(6, 7, 8)), batch_tokens=2)
    assert pieces(plan) == [[1, 2], [3, 4], [5], [6], [7], [8]]
    assert plan.approximate_because == ""


def test_a_replay_that_would_take_too_long_goes_on_in_chunks_and_says_so() -> None:
    plan = ReadingPlan([1, 2], Replay(ids=tuple(range(100)), exactly_within_s=2.0), batch_tokens=32)
    read = pieces(plan, seconds_per_piece=0.03)
    assert [len(piece) for piece in read] == [2, 1, 1, 1, 1, 32, 32, 32]
    assert plan.approximate_because == "reading 100 generated tokens again one by one would take about 3.0 s; resume_policy EXACT does"


def test_a_replay_that_slows_down_is_given_up_on_the_way() -> None:
    plan = ReadingPlan([1], Replay(ids=tuple(range(100)), exactly_within_s=2.0), batch_tokens=64)
    plan.next_piece(0.0)
    for at in range(50):
        assert len(plan.next_piece(at * 0.01)) == 1
    assert len(plan.next_piece(1.5)) == 50


def test_a_replay_that_is_approximate_anyway_wastes_no_time() -> None:
    plan = ReadingPlan([1], Replay(ids=(2, 3, 4), exactly_within_s=0.0, approximate_because="why"), batch_tokens=64)
    assert pieces(plan) == [[1], [2, 3, 4]]
    assert plan.approximate_because == "why"


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=40),
    st.lists(st.integers(0, 99), max_size=40),
    st.integers(1, 16),
    st.sampled_from([0.0, 0.5, math.inf]),
    st.floats(0, 1),
)
def test_everything_is_read_once_in_order_and_a_prompt_as_it_always_is(
    prompt: list[int], ids: list[int], batch: int, within_s: float, pace_s: float
) -> None:
    read = pieces(ReadingPlan(prompt, Replay(ids=tuple(ids), exactly_within_s=within_s), batch_tokens=batch), pace_s)
    assert [token for piece in read for token in piece] == prompt + ids
    assert all(1 <= len(piece) <= batch for piece in read)
    fresh = pieces(ReadingPlan(prompt, Replay(), batch_tokens=batch))
    assert read[: len(fresh)] == fresh
