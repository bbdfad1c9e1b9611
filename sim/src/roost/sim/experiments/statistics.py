"""Means with intervals, and what a comparison supports. Pure.

Intervals are Student's, at 95 %, over seeds: each seed is one independent run. Where two planes are compared, they are run with the same
seeds and so with the same requests, and the interval is of the differences seed by seed.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval; of a single value the interval is not known and NaN."""

    mean: float
    low: float
    high: float
    count: int

    def __format__(self, spec: str) -> str:
        """`spec` formats each number: 0.812 [0.801, 0.823]."""
        if self.count < 2:
            return format(self.mean, spec)
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def interval(values: Sequence[float]) -> Interval:
    """Of the mean of independent values. NaNs (nothing was measured) are left out."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = fmean(known)
    if len(known) < 2:
        return Interval(mean, math.nan, math.nan, len(known))
    reach = float(student.ppf(0.5 + CONFIDENCE / 2, len(known) - 1)) * stdev(known) / math.sqrt(len(known))
    return Interval(mean, mean - reach, mean + reach, len(known))


def paired(ones: Sequence[float], others: Sequence[float]) -> Interval:
    """Of the mean of `one - other`, seed by seed. Raises ValueError if they are not equally many."""
    return interval([one - other for one, other in zip(ones, others, strict=True)])


class Verdict(enum.Enum):
    """What the data say of a hypothesis."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    OPEN = "not decided"


def judge(difference: Interval, *, expected_sign: int) -> Verdict:
    """Of the hypothesis that the difference has that sign (1 or -1): decided if its interval lies on one side of zero."""
    if difference.count < 2 or difference.low <= 0.0 <= difference.high:
        return Verdict.OPEN
    sign = 1 if difference.mean > 0 else -1
    return Verdict.SUPPORTED if sign == expected_sign else Verdict.CONTRADICTED


def at_most(measured: Interval, bound: float) -> Verdict:
    """Of the hypothesis that a mean is no more than `bound`."""
    if measured.count < 2:
        return Verdict.OPEN
    if measured.high <= bound:
        return Verdict.SUPPORTED
    return Verdict.CONTRADICTED if measured.low > bound else Verdict.OPEN
