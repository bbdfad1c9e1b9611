"""At most one run of a generation at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.errors import StaleAttempt
from roost.worker.core.fence import MAX_REMEMBERED, REMEMBERED_S, Fence

G, H = b"g" * 16, b"h" * 16


def test_a_higher_attempt_gets_the_older_run_to_end() -> None:
    fence: Fence[str] = Fence()
    assert fence.enter(G, 0, "first", 0.0) is None
    assert fence.enter(G, 2, "second", 1.0) == "first"
    assert fence.enter(H, 0, "another generation", 1.0) is None


@pytest.mark.parametrize("attempt", [0, 1])
def test_an_attempt_that_is_not_above_the_last_one_is_refused(attempt: int) -> None:
    fence: Fence[str] = Fence()
    fence.enter(G, 1, "first", 0.0)
    with pytest.raises(StaleAttempt) as refusal:
        fence.enter(G, attempt, "second", 1.0)
    assert (refusal.value.attempt, refusal.value.last_attempt) == (attempt, 1)


def test_an_ended_generation_is_remembered_for_a_minute() -> None:
    fence: Fence[str] = Fence()
    fence.enter(G, 1, "first", 0.0)
    fence.leave(G, "first", 10.0)
    with pytest.raises(StaleAttempt):
        fence.enter(G, 1, "late", 10.0 + REMEMBERED_S)
    assert fence.enter(G, 1, "much later", 10.1 + REMEMBERED_S) is None
    fence.leave(G, "much later", 100.0)
    assert fence.enter(G, 2, "asked on", 101.0) is None, "a higher one goes on, and nothing of it runs any more"


def test_a_run_that_was_replaced_leaves_nothing_behind() -> None:
    fence: Fence[str] = Fence()
    fence.enter(G, 0, "first", 0.0)
    fence.enter(G, 1, "second", 1.0)
    fence.leave(G, "first", 2.0)
    assert fence.enter(G, 2, "third", 3.0) == "second"


def test_a_generation_that_runs_long_is_remembered_as_long() -> None:
    fence: Fence[str] = Fence()
    fence.enter(G, 0, "first", 0.0)
    fence.leave(G, "first", 1.0)
    fence.enter(G, 1, "second", 2.0)
    with pytest.raises(StaleAttempt):
        fence.enter(G, 1, "third", 1000.0)


def test_no_more_are_remembered_than_there_is_room_for() -> None:
    fence: Fence[int] = Fence()
    for number in range(MAX_REMEMBERED + 100):
        fence.enter(number.to_bytes(16), 0, number, 0.0)
        fence.leave(number.to_bytes(16), number, 0.0)
    assert len(fence) == MAX_REMEMBERED


STEPS = st.lists(st.tuples(st.sampled_from([G, H]), st.integers(0, 3), st.booleans(), st.floats(0, 40)), max_size=40)


@given(STEPS)
def test_whatever_comes_one_run_of_each_is_in_and_attempts_rise(steps: list[tuple[bytes, int, bool, float]]) -> None:
    fence: Fence[object] = Fence()
    running: dict[bytes, object] = {}
    last: dict[bytes, tuple[int, float]] = {}
    now = 0.0
    for generation, attempt, is_leaving, passed_s in steps:
        now += passed_s
        if is_leaving and generation in running:
            fence.leave(generation, running.pop(generation), now)
            last[generation] = (last[generation][0], now)
            continue
        run = object()
        try:
            older = fence.enter(generation, attempt, run, now)
        except StaleAttempt:
            assert attempt <= last[generation][0]
            continue
        assert older is running.get(generation)
        known = last.get(generation)
        assert known is None or attempt > known[0] or (generation not in running and now - known[1] > REMEMBERED_S)
        running[generation], last[generation] = run, (attempt, now)
