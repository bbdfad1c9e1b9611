"""Intervals and verdicts."""

from __future__ import annotations

import math
import random

import pytest

from roost.sim.experiments.statistics import Interval, Verdict, at_most, interval, judge, paired


def test_the_interval_is_students() -> None:
    """t = 4.303 for two degrees of freedom; the standard error of 1, 2, 3 is 1 / √3."""
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.high - found.mean == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_ninety_five_of_a_hundred_intervals_hold_the_truth() -> None:
    rng = random.Random(5)
    held = sum(found.low <= 7.0 <= found.high for found in (interval([rng.gauss(7.0, 2.0) for _ in range(5)]) for _ in range(2_000)))
    assert 0.93 <= held / 2_000 <= 0.97


def test_what_was_not_measured_is_left_out() -> None:
    assert interval([1.0, math.nan, 3.0]).count == 2
    assert math.isnan(interval([math.nan]).mean)


def test_of_one_value_nothing_is_concluded() -> None:
    alone = interval([1.0])
    assert f"{alone:.2f}" == "1.00"
    assert judge(alone, expected_sign=1) is Verdict.OPEN
    assert at_most(alone, 2.0) is Verdict.OPEN


def test_pairs_take_out_what_both_have_in_common() -> None:
    common = [10.0, 200.0, 3_000.0]
    difference = paired([value + 1.0 for value in common], common)
    assert (difference.low, difference.high) == pytest.approx((1.0, 1.0))
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [])


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Interval(0.5, 0.1, 0.9, 5), Verdict.SUPPORTED),
        (Interval(-0.5, -0.9, -0.1, 5), Verdict.CONTRADICTED),
        (Interval(0.5, -0.1, 1.1, 5), Verdict.OPEN),
    ],
)
def test_a_sign_is_judged_by_where_the_interval_lies(found: Interval, verdict: Verdict) -> None:
    assert judge(found, expected_sign=1) is verdict


@pytest.mark.parametrize(("bound", "verdict"), [(1.0, Verdict.SUPPORTED), (0.5, Verdict.OPEN), (0.05, Verdict.CONTRADICTED)])
def test_a_bound_is_judged_by_where_the_interval_lies(bound: float, verdict: Verdict) -> None:
    assert at_most(Interval(0.5, 0.1, 0.9, 5), bound) is verdict
