"""Outcomes wait until a coordinator has surely heard them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.worker_state import MAX_OUTCOMES, CacheResult, DecisionOutcome
from roost.worker.core.outcomes import UNSURE_S, Outcomes


def arrived(outcomes: Outcomes, *names: str) -> None:
    for name in names:
        outcomes.arrived(DecisionOutcome(name, CacheResult.HIT))


def names(outcomes: Outcomes) -> list[str]:
    return [outcome.decision_id for outcome in outcomes.unsent()]


def test_what_was_sent_is_not_sent_again() -> None:
    outcomes = Outcomes()
    arrived(outcomes, "a", "b")
    outcomes.sent(1, 0.0)
    assert names(outcomes) == ["b"]


def test_what_a_broken_stream_may_have_lost_comes_first_on_the_next() -> None:
    outcomes = Outcomes()
    arrived(outcomes, "a", "b")
    outcomes.sent(2, 10.0)
    arrived(outcomes, "c")
    outcomes.stream_lost(11.0)
    assert names(outcomes) == ["a", "b", "c"]


def test_what_was_sent_long_before_the_stream_broke_has_arrived() -> None:
    outcomes = Outcomes()
    arrived(outcomes, "old", "new")
    outcomes.sent(1, 0.0)
    outcomes.sent(1, UNSURE_S)
    outcomes.stream_lost(UNSURE_S + 1)
    assert names(outcomes) == ["new"]


def test_with_too_many_unsent_the_oldest_go_and_are_counted() -> None:
    outcomes = Outcomes()
    arrived(outcomes, *map(str, range(MAX_OUTCOMES + 2)))
    assert names(outcomes)[0] == "2"
    assert (len(outcomes.unsent()), outcomes.dropped) == (MAX_OUTCOMES, 2)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["arrive", "send", "lose"]), max_size=60))
def test_while_streams_break_no_outcome_is_lost_and_order_is_kept(steps: list[str]) -> None:
    outcomes, made, heard = Outcomes(), 0, []
    for now, step in enumerate(steps):
        if step == "arrive":
            arrived(outcomes, str(made))
            made += 1
        elif step == "send":
            heard.append(names(outcomes))
            outcomes.sent(len(outcomes.unsent()), now / 100)
        else:
            outcomes.stream_lost(now / 100)
    outcomes.stream_lost(len(steps) / 100)
    assert names(outcomes) == [str(number) for number in range(made)]
    assert all(report == sorted(report, key=int) for report in heard)
