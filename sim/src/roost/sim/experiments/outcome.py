"""What an experiment found, ready to be written down: a hypothesis and its verdict, tables, and the curves of its plots. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from roost.sim.experiments.plan import Plan
from roost.sim.experiments.statistics import Verdict
from roost.sim.records import RunRecord

Carry = Callable[[Plan], RunRecord]
"""Carries a plan out: in the simulator, or on real processes."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Claim:
    """A hypothesis, stated before the runs, and what they say of it in one sentence with its numbers."""

    hypothesis: str
    verdict: Verdict
    because: str


@dataclass(frozen=True, slots=True)
class Table:
    """Cells are texts, ready to be read. The same numbers, unrounded, are in the experiment's JSON."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: x and y, and low and high of a band around it where there is one. `marks` are vertical lines with a word."""

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """One panel. Scales are linear or log; `marks` are vertical lines, each with its word."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_scale: str = "linear"
    y_scale: str = "linear"
    is_stepped: bool = False
    marks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """Panels side by side, and the sentence below them."""

    name: str
    caption: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One experiment. `measured` holds every number of the tables by name, for the JSON; `limits` says where it fails or ends."""

    number: int
    title: str
    question: str
    claims: tuple[Claim, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    limits: tuple[str, ...]
    measured: Mapping[str, object] = field(default_factory=dict)


def distribution(values: Sequence[float], points: int = 200) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The cumulative distribution of `values` at `points` shares: (value, share) as two tuples."""
    ordered = sorted(values)
    if not ordered:
        return (), ()
    shares = [index / (points - 1) for index in range(points)]
    return tuple(ordered[min(len(ordered) - 1, int(share * (len(ordered) - 1)))] for share in shares), tuple(shares)
