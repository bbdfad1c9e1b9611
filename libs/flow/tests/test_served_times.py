"""How long generations hold a slot, as their callers have seen it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.flow.served_times import MAX_KINDS, ServedTimes


def test_what_was_never_seen_takes_no_time() -> None:
    assert ServedTimes().expected_s(("m", 16)) == 0.0


def test_times_that_do_not_vary_are_expected_as_they_are() -> None:
    times = ServedTimes()
    for _ in range(60):
        times.note(("m", 16), 0.5)
    assert 0.5 <= times.expected_s(("m", 16)) < 0.51
    assert times.expected_s(("m", 400)) == 0.0


@given(st.lists(st.floats(0.1, 1.0), min_size=200, max_size=200))
def test_what_is_expected_stays_within_what_such_times_allow(seen: list[float]) -> None:
    times = ServedTimes()
    for served_s in seen:
        times.note(("m", 16), served_s)
    assert 0.1 <= times.expected_s(("m", 16)) <= 1.0 + 4 * 0.9


def test_only_so_many_kinds_are_kept() -> None:
    times = ServedTimes()
    for number in range(MAX_KINDS + 1):
        times.note(("m", number), 1.0)
    assert times.expected_s(("m", 0)) == 0.0
    assert times.expected_s(("m", MAX_KINDS)) > 0
