from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.gossip.protocol.config import Bounds
from roost.gossip.protocol.membership import Members, Outcome
from roost.gossip.protocol.messages import Alive, Claim, Dead, Left, Status, Suspect

HOME = ("10.0.0.1", 7946)


def members_with(*claims: Claim, bounds: Bounds | None = None) -> Members:
    members = Members(bounds or Bounds(), tombstone_s=100.0)
    for claim in claims:
        members.apply(claim, 0.0)
    return members


def alive(epoch: int = 5, incarnation: int = 3) -> Alive:
    return Alive("a", HOME, epoch, incarnation)


def suspect(epoch: int = 5, incarnation: int = 3) -> Suspect:
    return Suspect("a", epoch, incarnation, "z")


def dead(epoch: int = 5, incarnation: int = 3) -> Dead:
    return Dead("a", epoch, incarnation, "z")


def left(epoch: int = 5, incarnation: int = 3) -> Left:
    return Left("a", epoch, incarnation)


@pytest.mark.parametrize(
    ("before", "claim", "outcome"),
    [
        # alive wins only with a higher incarnation
        (alive(), alive(), Outcome.STALE),
        (alive(), alive(incarnation=4), Outcome.RENEWED),
        (suspect(), alive(), Outcome.STALE),
        (suspect(), alive(incarnation=4), Outcome.RECOVERED),
        (dead(), alive(), Outcome.STALE),
        (dead(), alive(incarnation=4), Outcome.RECOVERED),
        # suspect and dead win with at least the known one
        (alive(), suspect(), Outcome.SUSPECTED),
        (alive(), suspect(incarnation=4), Outcome.SUSPECTED),
        (alive(), suspect(incarnation=2), Outcome.STALE),
        (suspect(), suspect(), Outcome.STALE),
        (alive(), dead(), Outcome.DIED),
        (suspect(), dead(), Outcome.DIED),
        (suspect(), dead(incarnation=2), Outcome.STALE),
        (dead(), suspect(), Outcome.STALE),
        (dead(), suspect(incarnation=4), Outcome.SUSPECTED),  # somebody saw it refute
        # a leave is final for its epoch, and no death
        (alive(), left(), Outcome.LEFT),
        (dead(), left(), Outcome.LEFT),
        (left(), alive(incarnation=9), Outcome.STALE),
        (left(), dead(incarnation=9), Outcome.STALE),
        # a new epoch wins at once, an old one never
        (alive(), alive(epoch=6, incarnation=0), Outcome.RESTARTED),
        (dead(), alive(epoch=6, incarnation=0), Outcome.RESTARTED),
        (left(), alive(epoch=6, incarnation=0), Outcome.RESTARTED),
        (alive(), alive(epoch=4, incarnation=9), Outcome.STALE),
        (alive(), dead(epoch=4, incarnation=9), Outcome.STALE),
        (alive(), suspect(epoch=6), Outcome.UNKNOWN),
    ],
)
def test_a_claim_counts_iff_it_stands_higher(before: Claim, claim: Claim, outcome: Outcome) -> None:
    assert members_with(alive(), before).apply(claim, 1.0) is outcome


@pytest.mark.parametrize("claim", [suspect(), dead(), left()])
def test_accusations_of_strangers_change_nothing(claim: Claim) -> None:
    members = members_with()
    assert members.apply(claim, 0.0) is Outcome.UNKNOWN
    assert len(members) == 0


@pytest.mark.parametrize(("before", "outcome"), [(alive(), Outcome.CONFLICT), (suspect(), Outcome.CONFLICT), (dead(), Outcome.RESTARTED)])
def test_a_name_is_free_only_when_its_holder_is_gone(before: Claim, outcome: Outcome) -> None:
    members = members_with(alive(), before)
    assert members.apply(Alive("a", ("10.0.0.2", 7946), 6, 0), 1.0) is outcome


claims = st.builds(
    lambda kind, epoch, incarnation, accuser: {
        Status.ALIVE: Alive("a", HOME, epoch, incarnation),
        Status.SUSPECT: Suspect("a", epoch, incarnation, accuser),
        Status.DEAD: Dead("a", epoch, incarnation, accuser),
        Status.LEFT: Left("a", epoch, incarnation),
    }[kind],
    st.sampled_from(Status),
    st.just(5),
    st.integers(0, 4),
    st.sampled_from("xyz"),
)


def final_place(order: list[Claim]) -> tuple[int, bool, int, int]:
    member = members_with(alive(incarnation=0), *order).get("a")
    assert member is not None
    return member.place


@given(st.lists(claims, max_size=4))
def test_the_order_in_which_claims_arrive_does_not_matter(order: list[Claim]) -> None:
    assert len({final_place(list(permuted)) for permuted in itertools.permutations(order)}) == 1


@given(st.lists(claims, max_size=6))
def test_claims_heard_twice_change_nothing_more(order: list[Claim]) -> None:
    assert final_place(order) == final_place([claim for claim in order for _ in range(2)]) == final_place(order + order)


@given(st.lists(st.tuples(claims, st.integers(5, 7)), max_size=12))
def test_what_is_known_of_a_member_never_goes_back(order: list[tuple[Claim, int]]) -> None:
    members = members_with(alive(incarnation=0))
    places = []
    for claim, epoch in order:
        members.apply(replace(claim, epoch=epoch), 0.0)
        member = members.get("a")
        assert member is not None
        places.append(member.place)
    assert places == sorted(places)


def test_the_pruned_stay_gone_while_their_tombstone_stands() -> None:
    members = members_with(alive(), dead())
    assert [m.name for m in members.prune(10.0, dead_after_s=10.0, left_after_s=5.0)] == ["a"]
    assert members.apply(alive(), 11.0) is Outcome.STALE
    assert members.apply(alive(incarnation=4), 11.0) is Outcome.JOINED


def test_tombstones_are_forgotten_in_time() -> None:
    members = members_with(alive(), dead())
    members.prune(10.0, dead_after_s=10.0, left_after_s=5.0)
    members.prune(120.0, dead_after_s=10.0, left_after_s=5.0)
    assert members.tombstones() == 0


def test_the_table_is_bounded_and_the_longest_gone_give_way() -> None:
    bounds = Bounds(members=3, tombstones=2)
    members = members_with(*(Alive(name, HOME, 5, 0) for name in "abc"), bounds=bounds)
    assert members.apply(Alive("d", HOME, 5, 0), 1.0) is Outcome.FULL
    members.apply(Dead("b", 5, 0, "z"), 2.0)
    assert members.apply(Alive("d", HOME, 5, 0), 3.0) is Outcome.JOINED
    assert {member.name for member in members} == {"a", "c", "d"}
    for i in range(50):
        members.apply(Dead("d" if i == 0 else f"e{i - 1}", 5, 0, "z"), 4.0)
        members.apply(Alive(f"e{i}", HOME, 5, 0), 4.0)
    assert len(members) == 3
    assert members.tombstones() == 2


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(Status), st.integers(0, 3), st.integers(1, 3)), max_size=40))
def test_the_indexes_follow_the_rows(steps: list[tuple[str, Status, int, int]]) -> None:
    members = members_with()
    for name, status, incarnation, epoch in steps:
        made: dict[Status, Claim] = {
            Status.ALIVE: Alive(name, HOME, epoch, incarnation),
            Status.SUSPECT: Suspect(name, epoch, incarnation, "z"),
            Status.DEAD: Dead(name, epoch, incarnation, "z"),
            Status.LEFT: Left(name, epoch, incarnation),
        }
        members.apply(made[status], 0.0)
    reachable = {member.name for member in members if not member.is_gone}
    assert {member.name for member in members.reachable()} == reachable
    assert {member.name for member in members.gone()} == {member.name for member in members} - reachable
    assert set(members.owners.values()) == reachable
    assert {m.name for m in members.pick(99, random.Random(1))} == reachable
