import math

import pytest

from roost.gossip.protocol.local_health import LocalHealth
from roost.gossip.protocol.push_pull import interval_scale
from roost.gossip.protocol.rumours import retransmissions
from roost.gossip.protocol.suspicion import Suspicion, expected_confirmations, minimum_timeout_s, timeout_s


@pytest.mark.parametrize(
    ("members", "interval_s", "expected_s"),
    [(1, 1.0, 4.0), (5, 1.0, 4.0), (10, 1.0, 4.0), (100, 1.0, 8.0), (1000, 1.0, 12.0), (100, 0.5, 4.0), (300, 1.0, 4 * math.log10(300))],
)
def test_the_shortest_suspicion_grows_with_the_logarithm_of_the_cluster(members: int, interval_s: float, expected_s: float) -> None:
    assert minimum_timeout_s(4, members, interval_s) == pytest.approx(expected_s)


@pytest.mark.parametrize(("members", "expected"), [(1, 0), (2, 0), (3, 0), (4, 2), (5, 2), (100, 2)])
def test_two_confirmations_are_expected_where_two_others_could_give_them(members: int, expected: int) -> None:
    assert expected_confirmations(4, members) == expected


@pytest.mark.parametrize(
    ("confirmations", "expected", "seconds"),
    [
        (0, 2, 48.0),
        (1, 2, 48.0 - 40.0 * math.log(2) / math.log(3)),
        (2, 2, 8.0),
        (3, 2, 8.0),
        (0, 0, 8.0),
        (0, 1, 48.0),
        (1, 1, 8.0),
    ],
)
def test_each_confirmation_shortens_the_wait_down_to_the_minimum(confirmations: int, expected: int, seconds: float) -> None:
    assert timeout_s(8.0, 48.0, confirmations, expected) == pytest.approx(seconds)


def test_the_first_accuser_does_not_count_and_nobody_counts_twice() -> None:
    suspicion = Suspicion(0, 100.0, 8.0, 48.0, 2, "a")
    assert [suspicion.confirm(name) for name in ("a", "b", "b", "c", "d")] == [False, True, False, True, False]
    assert suspicion.deadline == pytest.approx(108.0)


def test_a_suspicion_is_postponed_by_our_own_lateness() -> None:
    suspicion = Suspicion(0, 100.0, 8.0, 48.0, 0, "a")
    suspicion.postpone(2.5)
    assert suspicion.deadline == pytest.approx(110.5)


@pytest.mark.parametrize(("members", "times"), [(1, 4), (8, 4), (9, 4), (10, 8), (99, 8), (100, 12), (999, 12), (1000, 16)])
def test_a_rumour_is_told_lambda_times_the_digits_of_the_cluster(members: int, times: int) -> None:
    assert retransmissions(4, members) == times


@pytest.mark.parametrize(("members", "scale"), [(1, 1), (32, 1), (33, 2), (64, 2), (65, 3), (128, 3), (129, 4), (1000, 6)])
def test_whole_states_are_exchanged_less_often_in_large_clusters(members: int, scale: int) -> None:
    assert interval_scale(members, 32) == scale


def test_health_moves_by_what_memberlist_moves_it() -> None:
    health = LocalHealth(7)
    health.probe_failed(expected_nacks=0, nacks=0)
    assert health.score == 1  # no helpers: any failure is a bad sign
    health.probe_failed(expected_nacks=3, nacks=3)
    assert health.score == 1  # all helpers answered: it is not us
    health.probe_failed(expected_nacks=3, nacks=1)
    assert health.score == 3
    health.refuted()
    assert health.score == 4
    health.probe_succeeded()
    assert health.score == 3
    assert health.scale(0.5) == pytest.approx(2.0)


def test_health_stays_within_its_bounds() -> None:
    health = LocalHealth(7)
    health.probe_succeeded()
    assert health.score == 0
    for _ in range(20):
        health.was_late()
    assert health.score == 7
