"""Decisions that a worker refused are taken back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.worker_state import CacheResult, DecisionOutcome
from roost.placement.decision import Action
from roost.placement.statistics import PlacementStatistics


def counts(statistics: PlacementStatistics) -> tuple[int, int, int, int]:
    return (statistics.total_requests, statistics.hits, statistics.cold_starts, statistics.joins)


@pytest.mark.parametrize(
    ("action", "found", "expected"),
    [
        pytest.param(Action.SERVE, None, (1, 1, 0, 0), id="served, no outcome"),
        pytest.param(Action.SERVE, CacheResult.HIT, (1, 1, 0, 0), id="served, a hit"),
        pytest.param(Action.SERVE, CacheResult.COLD_START, (1, 0, 1, 0), id="served, evicted meanwhile"),
        pytest.param(Action.SERVE, CacheResult.JOIN, (1, 0, 0, 1), id="served, loads again"),
        pytest.param(Action.SERVE, CacheResult.REFUSED, (0, 0, 0, 0), id="served, refused"),
        pytest.param(Action.COLD_START, None, (1, 0, 1, 0), id="cold start, no outcome"),
        pytest.param(Action.COLD_START, CacheResult.HIT, (1, 1, 0, 0), id="cold start, ready meanwhile"),
        pytest.param(Action.COLD_START, CacheResult.COLD_START, (1, 0, 1, 0), id="cold start, as expected"),
        pytest.param(Action.COLD_START, CacheResult.JOIN, (1, 0, 0, 1), id="cold start, another began it"),
        pytest.param(Action.COLD_START, CacheResult.REFUSED, (0, 0, 0, 0), id="cold start, refused"),
    ],
)
def test_what_one_decision_counts(action: Action, found: CacheResult | None, expected: tuple[int, int, int, int]) -> None:
    statistics = PlacementStatistics()
    statistics.decided("d1", action)
    for _ in range(2 if found else 0):  # told twice counts once
        statistics.settled(DecisionOutcome("d1", found or CacheResult.HIT))
    assert counts(statistics) == expected


def test_the_refusal_of_somebody_elses_decision_takes_nothing_back() -> None:
    statistics = PlacementStatistics()
    statistics.decided("d1", Action.SERVE)
    statistics.settled(DecisionOutcome("e1", CacheResult.REFUSED))
    assert counts(statistics) == (1, 1, 0, 0)


def test_the_hit_rate_is_over_what_was_not_refused() -> None:
    statistics = PlacementStatistics()
    for number in range(4):
        statistics.decided(f"d{number}", Action.SERVE if number else Action.COLD_START)
    for number in (2, 3):
        statistics.settled(DecisionOutcome(f"d{number}", CacheResult.REFUSED))
    assert statistics.cache_hit_rate == 0.5


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.sampled_from([Action.SERVE, Action.COLD_START]), max_size=30),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(CacheResult)), max_size=60),
)
def test_refused_decisions_leave_no_trace(actions: list[Action], outcomes: list[tuple[int, CacheResult]]) -> None:
    """In whatever order outcomes come, and whosever they are: as if the refused ones had never been made."""
    statistics, without = PlacementStatistics(), PlacementStatistics()
    first = dict(reversed(outcomes))
    for number, action in enumerate(actions):
        statistics.decided(f"d{number}", action)
        if first.get(number) is not CacheResult.REFUSED:
            without.decided(f"d{number}", action)
    for number, found in outcomes:
        statistics.settled(DecisionOutcome(f"d{number}", found))
        without.settled(DecisionOutcome(f"d{number}", found))
        assert statistics.hits + statistics.cold_starts + statistics.joins == statistics.total_requests
        assert min(counts(statistics)) >= 0
    assert counts(statistics) == counts(without)
