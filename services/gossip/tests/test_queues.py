from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from roost.gossip.frame_format import frame_size
from roost.gossip.protocol.config import StateParameters
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.messages import Ack, Dead, Digest, Left, Suspect
from roost.gossip.protocol.outbox import Outbox
from roost.gossip.protocol.pace import Pace
from roost.gossip.protocol.probe import Ring
from roost.gossip.protocol.rng import sample
from roost.gossip.protocol.rumours import Rumours
from roost.gossip.protocol.timers import Timers


def test_timers_fire_in_order_and_equal_ones_in_the_order_they_were_set() -> None:
    timers = Timers()
    for name, deadline in (("c", 3.0), ("a", 1.0), ("b", 1.0)):
        timers.set((name, 0), deadline)
    assert [timers.pop_due(3.0) for _ in range(4)] == [("a", 0), ("b", 0), ("c", 0), None]


def test_a_timer_set_again_fires_once_at_its_new_time() -> None:
    timers = Timers()
    timers.set(("a", 0), 1.0)
    timers.set(("a", 0), 5.0)
    assert timers.pop_due(4.0) is None
    assert timers.pop_due(5.0) == ("a", 0)
    assert timers.next() is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 10) | st.none()), max_size=60))
def test_timers_are_a_map_from_keys_to_deadlines(steps: list[tuple[str, float | None]]) -> None:
    timers, model = Timers(), dict[str, float]()
    for name, deadline in steps:
        if deadline is None:
            timers.cancel((name, 0))
            model.pop(name, None)
        else:
            timers.set((name, 0), deadline)
            model[name] = deadline
        assert timers.next() == min(model.values(), default=None)
    assert len(timers) == len(model)


def test_a_thousand_changes_of_one_timer_leave_no_heap_behind() -> None:
    timers = Timers()
    for i in range(10_000):
        timers.set(("a", 0), float(i))
    assert len(timers._heap) <= 130


def test_a_rumour_is_told_as_often_as_allowed_and_then_dropped() -> None:
    rumours = Rumours(10, frame_size)
    rumours.add(Left("a", 1, 0))
    assert [len(rumours.take(1000, 4)) for _ in range(6)] == [1, 1, 1, 1, 0, 0]


def test_what_is_told_to_the_silent_does_not_count() -> None:
    rumours = Rumours(10, frame_size)
    rumours.add(Left("a", 1, 0))
    assert [len(rumours.take(1000, 1, is_silent=is_silent)) for is_silent in (True, True, False, False)] == [1, 1, 1, 0]


def test_the_least_told_go_first_and_the_newest_among_equals() -> None:
    rumours = Rumours(10, frame_size)
    rumours.add(Left("old", 1, 0))
    rumours.take(1000, 4)
    rumours.add(Left("new", 1, 0))
    rumours.add(Left("newest", 1, 0))
    assert [claim.name for claim in rumours.take(1000, 4)] == ["newest", "new", "old"]


def test_a_newer_rumour_of_a_member_replaces_the_older() -> None:
    rumours = Rumours(10, frame_size)
    rumours.add(Left("a", 1, 0))
    rumours.add(Left("a", 2, 0))
    assert rumours.take(1000, 4) == [Left("a", 2, 0)]


def test_accusers_of_one_suspicion_are_told_side_by_side_until_something_newer_is_known() -> None:
    rumours = Rumours(10, frame_size)
    for accuser in "xyx":
        rumours.add(Suspect("a", 1, 0, accuser))
    assert set(rumours.take(1000, 4)) == {Suspect("a", 1, 0, "x"), Suspect("a", 1, 0, "y")}
    rumours.add(Suspect("a", 1, 1, "z"))
    assert rumours.take(1000, 4) == [Suspect("a", 1, 1, "z")]
    rumours.add(Dead("a", 1, 1, "z"))
    assert rumours.take(1000, 4) == [Dead("a", 1, 1, "z")]
    rumours.drop("a")
    assert (len(rumours), "a" in rumours) == (0, False)


def test_the_rumour_queue_is_bounded_and_the_most_told_gives_way() -> None:
    rumours = Rumours(2, frame_size)
    rumours.add(Left("told", 1, 0))
    rumours.take(1000, 4)
    rumours.add(Left("b", 1, 0))
    rumours.add(Left("c", 1, 0))
    assert len(rumours) == 2
    assert "told" not in rumours


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(0, 300), st.integers(1, 6))
def test_rumours_fit_their_room_and_are_told_equally_often(lengths: list[int], room: int, limit: int) -> None:
    rumours = Rumours(100, frame_size)
    for i, length in enumerate(lengths):
        rumours.add(Left(f"{i:02d}".ljust(length, "x"), 1, 0))
    told: Counter[str] = Counter()
    for _ in range(limit * len(lengths) + 1):
        taken = rumours.take(room, limit)
        assert sum(map(frame_size, taken)) <= room
        told.update(claim.name for claim in taken)
    assert all(count <= limit for count in told.values())


def test_packets_are_filled_to_their_limit_and_rumours_take_what_is_left() -> None:
    rumours = Rumours(100, frame_size)
    rumours.add(Left("goodbye", 1, 0))
    outbox = Outbox(room=100, capacity=1000, frame_size=frame_size, rumours=rumours, counters=Counters())
    outbox.put(("10.0.0.1", 1), *(Ack(i) for i in range(30)))
    parcels = outbox.flush(rumour_limit=1)
    assert [len(parcel.frames) for parcel in parcels] == [14, 14, 3]  # two acks and the rumour
    assert all(parcel.size_bytes == sum(map(frame_size, parcel.frames)) <= 100 for parcel in parcels)


def test_a_packet_of_nothing_is_not_sent_and_a_full_outbox_says_so() -> None:
    counters = Counters()
    outbox = Outbox(room=100, capacity=2, frame_size=frame_size, rumours=Rumours(1, frame_size), counters=counters)
    outbox.put(("10.0.0.1", 1))
    assert outbox.flush(1) == []
    for i in range(3):
        outbox.put(("10.0.0.1", 1), Ack(i))
    assert counters["outbox_full"] == 1
    outbox.flush(1)
    outbox.put(("10.0.0.1", 1), Digest(tuple(range(50)), (0,) * 50, (0,) * 50))
    assert outbox.flush(1) == []
    assert counters["frame_too_large"] == 1


def test_every_member_is_probed_once_a_round() -> None:
    ring = Ring(random.Random(3))
    for name in "abcdefg":
        ring.insert(name)
    while ring._position < len(ring):
        ring.next()
    for _ in range(5):
        assert sorted(str(ring.next()) for _ in range(7)) == list("abcdefg")


@given(st.integers(0, 2**32), st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=40))
def test_nobody_waits_longer_than_two_rounds_whoever_comes_and_goes(seed: int, steps: list[tuple[str, bool]]) -> None:
    ring = Ring(random.Random(seed))
    ring.insert("patient")
    waited = 0
    for name, is_coming in steps:
        if is_coming and name not in ring:
            ring.insert(name)
        elif not is_coming and name in ring:
            ring.remove(name)
        waited = 0 if ring.next() == "patient" else waited + 1
        assert waited <= 2 * 9


@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(0, 12))
def test_a_sample_has_no_repetitions(seed: int, size: int, count: int) -> None:
    chosen = sample(range(size), count, random.Random(seed))
    assert len(chosen) == len(set(chosen)) == min(size, count)


def test_traffic_above_the_budget_stretches_the_interval_then_the_fanout_and_recovers() -> None:
    parameters = StateParameters(bytes_per_s=10_000)
    pace, now = Pace(parameters, 0.0), 0.0
    for _ in range(60):
        now += pace.interval_s
        pace.spend(2_000 * pace.fanout)
        pace.adjust(now)
    assert pace.fanout * 2_000 / pace.interval_s <= 10_500
    for _ in range(60):
        now += pace.interval_s
        pace.adjust(now)
    assert (pace.fanout, pace.interval_s) == (2, 0.2)


def test_state_frames_are_held_back_when_the_budget_of_a_second_is_spent() -> None:
    pace = Pace(StateParameters(bytes_per_s=10_000), 0.0)
    pace.spend(10_001)
    assert not pace.has_room(0.0)
    assert pace.has_room(0.1)
