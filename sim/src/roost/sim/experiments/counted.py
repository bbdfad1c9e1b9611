"""The hit rate as deciders count it, in simulated runs and in real ones. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from roost.sim.records import RunRecord
from roost.sim.summary import Summary, hit_rate, summarize

HITS, DECISIONS = "decided_hits", "decided"  # totals of a real run with a coordinator: clients cannot tell who waited there for a load


def counted_hit_rate(runs: Sequence[RunRecord]) -> float:
    """Of all runs together; NaN of none. The simulator's requests are counted as its deciders count them already."""
    decided = sum(run.totals.get(DECISIONS, 0.0) for run in runs)
    if decided:
        return sum(run.totals.get(HITS, 0.0) for run in runs) / decided
    return hit_rate([request for run in runs for request in run.requests])


def summarized(run: RunRecord) -> Summary:
    """The run's summary, with the hit rate as its deciders counted it."""
    return replace(summarize(run), hit_rate=counted_hit_rate([run]))
