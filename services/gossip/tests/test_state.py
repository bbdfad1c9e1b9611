from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.gossip.frame_format import frame_size
from roost.gossip.protocol.cold_state import (
    MAX_COLD_BYTES,
    MAX_COLD_KEYS,
    MAX_COLD_VALUE_BYTES,
    Applied,
    ColdLimit,
    ColdState,
)
from roost.gossip.protocol.hot_state import TICK_S, ClockOffset, HotPublisher, HotTable, Load, quantise, restore
from roost.gossip.protocol.messages import ColdDelta, ColdEntry, HotRecord
from roost.gossip.protocol.versions import LOW_BITS, expand, is_newer, low, successor

PACKET = 1_200

# --- versions ---


@given(st.integers(0, 2**32 - 70_000), st.integers(1, 30_000))
def test_low_bits_tell_which_of_two_versions_is_newer(version: int, ahead: int) -> None:
    mine, theirs = successor(version + ahead - 1), successor(version - 1) if version else successor(0)
    if mine > theirs:
        assert is_newer(low(mine), low(theirs))
        assert not is_newer(low(theirs), low(mine))
        assert expand(low(theirs), mine) == theirs


def test_having_nothing_is_behind_everything() -> None:
    assert is_newer(low(40_000), 0)
    assert not is_newer(0, low(40_000))
    assert expand(0, 40_000) == 0
    assert successor(0xFFFF) & LOW_BITS == 1


# --- hot ---

loads = st.builds(Load, st.integers(0, 100_000), st.integers(0, 100_000), st.floats(0, 1), st.booleans())
records = st.builds(HotRecord, st.integers(0, 3), st.integers(1, 50), st.integers(0, 9), st.integers(0, 9), st.integers(0, 100))


@given(loads)
def test_a_load_survives_quantisation_within_half_a_percent(load: Load) -> None:
    restored = restore(quantise(load, 1, 1))
    assert restored.queue_depth == min(load.queue_depth, 65_535)
    assert restored.busy_slots == min(load.busy_slots, 65_535)
    assert restored.gpu_utilization == pytest.approx(load.gpu_utilization, abs=0.005001)
    assert restored.is_draining == load.is_draining


def merged(order: list[HotRecord]) -> dict[int, HotRecord]:
    table = HotTable(300.0)
    for record in order:
        table.merge(record, 100.0)
    return {owner: entry.record for owner, entry in table.entries.items()}


@given(st.lists(records, max_size=12, unique_by=lambda r: (r.owner, r.version)), st.randoms(use_true_random=False))
def test_hot_records_merge_in_any_order_and_any_number_of_times(order: list[HotRecord], rng: random.Random) -> None:
    shuffled = order + order
    rng.shuffle(shuffled)
    assert merged(order) == merged(shuffled)


def test_ages_need_no_synchronised_clocks() -> None:
    table, their_clock_is_behind_s = HotTable(300.0), 5_000.0
    for i in range(20):
        written_at = 10.0 + i
        delay = 0.5 if i % 5 else 0.001
        table.merge(HotRecord(7, int(written_at / TICK_S), i, 0, 0), written_at + delay + their_clock_is_behind_s)
    assert table.age_s(7, 5_000.0 + 29.0 + 1.0) == pytest.approx(1.0, abs=0.03)


def test_a_smallest_delay_is_forgotten_after_two_windows_so_that_clocks_may_drift() -> None:
    offset = ClockOffset(1.0, 0.0, 100.0)
    for now, difference in ((50.0, 2.0), (101.0, 2.0), (150.0, 2.1)):
        offset.observe(difference, now)
        assert offset.value == 1.0
    offset.observe(2.2, 202.0)
    assert offset.value == 2.0


def publisher() -> HotPublisher:
    return HotPublisher(1, 0.0, min_publish_s=0.5, heartbeat_s=5.0)


def test_a_change_is_written_at_once_but_at_most_twice_a_second() -> None:
    published = publisher()
    published.set(Load(queue_depth=1))
    assert published.write(0.0) is not None
    published.set(Load(queue_depth=2))
    assert published.write(0.2) is None
    assert published.due_at() == 0.5
    assert published.write(0.5) is not None


def test_an_unchanged_load_is_written_every_five_seconds() -> None:
    published = publisher()
    published.set(Load(gpu_utilization=0.501))
    published.write(0.0)
    published.set(Load(gpu_utilization=0.502))  # the same in whole percent
    assert published.due_at() == 5.0
    assert published.write(4.9) is None
    assert published.write(5.0) is not None


def test_nothing_is_written_before_the_first_load() -> None:
    assert publisher().due_at() is None
    assert publisher().write(9.0) is None


# --- cold ---


def room_for_all(_: ColdDelta) -> int:
    return 0


def full(state: ColdState, held: int = 0) -> ColdDelta:
    delta = state.delta_after(held, 2**30, frame_size)
    assert delta is not None
    return delta


def test_a_replica_follows_its_owner_by_deltas() -> None:
    owner, replica = ColdState(1), ColdState(1)
    owner.write({"a": b"1", "b": b"2"})
    assert replica.apply(full(owner)) is Applied.NEWS
    owner.write({"a": None, "c": b"3"})
    assert replica.apply(full(owner, replica.version)) is Applied.NEWS
    assert replica.items() == owner.items() == {"b": b"2", "c": b"3"}


def test_a_delta_that_begins_above_what_is_held_is_a_gap() -> None:
    owner, replica = ColdState(1), ColdState(1)
    owner.write({"a": b"1"})
    owner.write({"b": b"2"})
    assert replica.apply(full(owner, 1)) is Applied.GAP
    assert replica.version == 0


def test_one_who_missed_a_forgotten_deletion_is_reset() -> None:
    owner, replica = ColdState(1), ColdState(1)
    owner.write({"a": b"1", "b": b"2"})
    replica.apply(full(owner))
    owner.write({"a": None})
    assert owner.collect({"a": 3})
    delta = full(owner, replica.version)
    assert delta.is_complete
    assert replica.apply(delta) is Applied.NEWS
    assert replica.items() == {"b": b"2"}
    assert replica.entries() == owner.entries()


def test_a_reset_that_does_not_fit_is_left_to_a_stream() -> None:
    owner = ColdState(1)
    owner.write({f"k{i}": bytes(500) for i in range(10)} | {"gone": b"x"})
    owner.write({"gone": None})
    owner.collect({"gone": 12})
    assert owner.delta_after(3, PACKET, frame_size) is None


def test_setting_a_key_to_what_it_is_writes_nothing() -> None:
    owner = ColdState(1)
    owner.write({"a": b"1"})
    assert owner.write({"a": b"1", "never": None}) == ()
    assert owner.version == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"": b"x"},
        {"k" * 521: b"x"},
        {"a": bytes(MAX_COLD_VALUE_BYTES + 1)},
        {f"k{i}": b"" for i in range(MAX_COLD_KEYS + 1)},
        {f"k{i}": bytes(512) for i in range(MAX_COLD_BYTES // 512)},
    ],
)
def test_a_write_beyond_a_limit_is_refused_whole(changes: dict[str, bytes]) -> None:
    owner = ColdState(1)
    with pytest.raises(ColdLimit):
        owner.write({"fine": b"1"} | changes)
    assert owner.version == 0


def test_a_replica_refuses_more_than_an_owner_may_write() -> None:
    entries = tuple(ColdEntry(f"k{i}", i + 1, bytes(512)) for i in range(200))
    assert ColdState(1).apply(ColdDelta(1, 0, 200, 0, True, entries)) is Applied.OVERSIZED
    assert ColdState(1).apply(ColdDelta(1, 0, 200, 0, False, entries)) is Applied.OVERSIZED


steps = st.lists(
    st.tuples(st.sampled_from(["write", "delete", "collect", "exchange"]), st.sampled_from("abcdef"), st.integers(0, 3), st.integers(0, 3)),
    max_size=60,
)


@settings(max_examples=200)
@given(steps, st.integers(40, 200))
def test_replicas_that_gossip_in_any_order_end_up_equal_to_their_owner(script: list[tuple[str, str, int, int]], room: int) -> None:
    states = [ColdState(1) for _ in range(4)]  # the first is the owner
    owner = states[0]
    delayed: list[tuple[int, ColdDelta]] = []
    for step, key, source, target in script:
        if step == "write":
            owner.write({key: bytes(source * 10) + key.encode()})
        elif step == "delete":
            owner.write({key: None})
        elif step == "collect":
            owner.collect({entry.key: entry.version for entry in owner.entries() if entry.value is None and entry.version % 2})
        elif target and source != target:
            delta = states[source].delta_after(states[target].version, room, frame_size)
            if delta is not None:
                delayed.append((target, delta))
                before = states[target].version
                assert states[target].apply(delayed[source % len(delayed)][1]) in set(Applied) - {Applied.OVERSIZED}
                assert states[target].version >= before
    for replica in states[1:]:
        for _, delta in delayed:
            replica.apply(delta)
        if replica.version < owner.version:
            assert replica.apply(full(owner, replica.version)) is Applied.NEWS
        assert replica.items() == owner.items()
        assert replica.version == owner.version
        assert replica.size_bytes == owner.size_bytes
        assert replica.apply(full(owner)) is Applied.STALE if owner.version else True


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=12))
def test_deltas_fit_their_room_and_always_make_progress(values: list[bytes]) -> None:
    owner, replica = ColdState(1), ColdState(1)
    owner.write({f"k{i}": value for i, value in enumerate(values)})
    rounds = 0
    while replica.version < owner.version:
        delta = owner.delta_after(replica.version, 400, frame_size)
        assert delta is not None
        assert frame_size(delta) <= 400
        replica.apply(delta)
        rounds += 1
    assert rounds <= len(values)
    assert replica.items() == owner.items()
