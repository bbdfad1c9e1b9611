"""Reservations and statistics, by themselves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.worker_state import CacheResult, DecisionOutcome
from roost.placement.decision import Action
from roost.placement.reservations import Reservation, Reservations
from roost.placement.statistics import PlacementStatistics

steps = st.lists(
    st.tuples(st.sampled_from(["make", "drop", "expire", "before", "forget"]), st.integers(0, 30), st.floats(0, 2)), max_size=60
)


@settings(derandomize=True, deadline=None)
@given(steps=steps)
def test_a_tally_is_always_the_sum_of_the_open_reservations(steps: list[tuple[str, int, float]]) -> None:
    reservations = Reservations(bound_s=5.0)
    open_ones: dict[str, Reservation] = {}
    now = 0.0
    for step, (what, number, gap_s) in enumerate(steps):
        now += gap_s
        node = f"w{number % 3}"
        if what == "make":
            open_ones[f"d{step}"] = Reservation(node, f"m{number % 2}", number % 10, now)
            reservations.make(f"d{step}", open_ones[f"d{step}"])
        elif what == "drop":
            dropped = open_ones.pop(f"d{number}", None)
            assert reservations.drop(f"d{number}") == (dropped.node_id if dropped else None)
        elif what == "expire":
            gone = {key for key, one in open_ones.items() if one.made_at <= now - 5.0}
            assert reservations.expire(now) == {open_ones.pop(key).node_id for key in gone}
        else:
            before = now - 1.0 if what == "before" else float("inf")
            for key in [key for key, one in open_ones.items() if one.node_id == node and one.made_at < before]:
                del open_ones[key]
            if what == "before":
                reservations.drop_made_before(node, before)
            else:
                reservations.forget(node)
        for node in ("w0", "w1", "w2"):
            mine = [one for one in open_ones.values() if one.node_id == node]
            tally = reservations.tally(node)
            assert tally.count == reservations.count(node) == len(mine)
            assert tally.by_model == Counter(one.model for one in mine)
            assert [tally.at_or_above(priority) for priority in range(10)] == [
                sum(one.priority >= priority for one in mine) for priority in range(10)
            ]
        assert len(reservations) == len(open_ones)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(Action)[:2]), st.sampled_from([None, *CacheResult])), max_size=50))
def test_the_counts_add_up_and_outcomes_win(decisions: list[tuple[Action, CacheResult | None]]) -> None:
    statistics = PlacementStatistics()
    expected: Counter[CacheResult] = Counter()
    for number, (action, found) in enumerate(decisions):
        statistics.decided(f"d{number}", action)
        expected[found or (CacheResult.HIT if action is Action.SERVE else CacheResult.COLD_START)] += 1
    for number, (_, found) in enumerate(decisions):
        if found is not None:
            statistics.settled(DecisionOutcome(f"d{number}", found))
            statistics.settled(DecisionOutcome(f"d{number}", CacheResult.JOIN))  # told twice, with another word
    counts = (statistics.hits, statistics.cold_starts, statistics.joins)
    assert counts == (expected[CacheResult.HIT], expected[CacheResult.COLD_START], expected[CacheResult.JOIN])
    assert sum(counts) == statistics.total_requests == len(decisions) - expected[CacheResult.REFUSED]


def test_only_recent_decisions_can_be_corrected() -> None:
    statistics = PlacementStatistics(recent_decisions=2)
    for number in range(5):
        statistics.decided(f"d{number}", Action.COLD_START)
    for number in range(5):
        statistics.settled(DecisionOutcome(f"d{number}", CacheResult.JOIN))
    assert (statistics.cold_starts, statistics.joins) == (2, 3)


def test_the_hit_rate_of_nothing_is_zero() -> None:
    assert PlacementStatistics().cache_hit_rate == 0.0
