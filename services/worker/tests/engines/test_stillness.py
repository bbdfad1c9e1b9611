"""When a process counts as standing still."""

from __future__ import annotations

from roost.worker.engines.stillness import CHECK_S, Stillness

PATIENCE_S = 4 * CHECK_S


def looks(*seen: tuple[bool, int, int | None]) -> list[bool]:
    stillness = Stillness(PATIENCE_S)
    return [stillness.look(owes=owes, messages=messages, processor_ticks=ticks) for owes, messages, ticks in seen]


def test_one_that_owes_an_answer_and_does_nothing_is_still_after_the_patience() -> None:
    assert looks(*[(True, 7, 40)] * 6) == [False, False, False, False, True, True]


def test_one_that_owes_nothing_may_rest() -> None:
    assert not any(looks(*[(False, 7, 40)] * 20))


def test_a_message_or_some_processor_time_shows_life() -> None:
    assert not any(looks(*[(True, messages // 3, 40) for messages in range(20)]))
    assert not any(looks(*[(True, 7, ticks // 3) for ticks in range(20)]))


def test_one_whose_processor_time_cannot_be_seen_is_given_the_benefit_of_the_doubt() -> None:
    assert not any(looks(*[(True, 7, None)] * 20))


def test_time_before_it_owed_anything_does_not_count() -> None:
    assert looks(*[(False, 7, 40)] * 10, *[(True, 7, 40)] * 5) == [False] * 14 + [True]
