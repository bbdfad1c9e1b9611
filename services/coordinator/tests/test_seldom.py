"""What is said again only after a while."""

from __future__ import annotations

from roost.coordinator.seldom import Seldom


def test_each_key_is_allowed_once_in_a_while() -> None:
    seldom = Seldom(every_s=60.0)
    asked = [("a", 0.0), ("a", 2.0), ("b", 3.0), ("a", 59.9), ("a", 60.0), ("a", 61.0), ("b", 63.0)]
    assert [seldom.allows(key, now) for key, now in asked] == [True, False, True, False, True, False, True]


def test_keys_that_are_not_asked_for_any_more_are_forgotten() -> None:
    seldom = Seldom(every_s=60.0)
    for number in range(1_000):
        seldom.allows(f"worker-{number}", float(number))
    assert len(seldom) == 60
