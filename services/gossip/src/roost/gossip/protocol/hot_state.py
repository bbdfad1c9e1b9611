"""Load that changes all the time: the last record of each owner, and how old it is without synchronised clocks.

Only the owner writes a record, records are immutable and the last version wins, so merging them is commutative, associative and
idempotent. A version is the moment of writing in ticks of the owner's own clock.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from operator import attrgetter

from roost.gossip.protocol.messages import HotRecord
from roost.gossip.protocol.versions import LOW_BITS, successor

TICK_S = 0.02  # 2**32 ticks are 2.7 years; a publisher writes at most twice a second
_MAX_QUEUE = 0xFFFF
_MAX_SLOTS = 0xFFFF
_DRAINING = 0x80
_PERCENT = 0x7F


@dataclass(frozen=True, slots=True)
class Load:
    """A worker's load in the worker's own terms. `gpu_utilization` is 0.0-1.0."""

    queue_depth: int = 0
    busy_slots: int = 0
    gpu_utilization: float = 0.0
    is_draining: bool = False

    def __post_init__(self) -> None:
        if self.queue_depth < 0 or self.busy_slots < 0:
            raise ValueError("queue_depth and busy_slots must be 0 or more")
        if not 0.0 <= self.gpu_utilization <= 1.0:  # also refuses NaN
            raise ValueError("gpu_utilization must be 0.0-1.0")


def quantise(load: Load, owner: int, version: int) -> HotRecord:
    """`load` as it travels: utilisation in whole percent, counts capped at 65,535."""
    gpu = round(load.gpu_utilization * 100) | (_DRAINING if load.is_draining else 0)
    return HotRecord(owner, version, min(load.queue_depth, _MAX_QUEUE), min(load.busy_slots, _MAX_SLOTS), gpu)


def restore(record: HotRecord) -> Load:
    """What a record says, give or take half a percent."""
    percent = min(100, record.gpu & _PERCENT)
    return Load(record.queue_depth, record.busy_slots, percent / 100, bool(record.gpu & _DRAINING))


class ClockOffset:
    """The smallest (received − generated) of the last one to two windows: our clock minus the owner's, plus the smallest delay."""

    __slots__ = ("_previous", "_smallest", "_started_at", "_window_s")

    def __init__(self, first: float, now: float, window_s: float) -> None:
        self._smallest = first
        self._previous = first
        self._started_at = now
        self._window_s = window_s

    def observe(self, difference: float, now: float) -> None:
        if now - self._started_at >= self._window_s:
            self._previous, self._smallest, self._started_at = self._smallest, difference, now
        elif difference < self._smallest:
            self._smallest = difference

    @property
    def value(self) -> float:
        return min(self._smallest, self._previous)


class HotEntry:
    """The last record of one owner. `generated_at` is on our clock, as well as we know the owner's."""

    __slots__ = ("generated_at", "offset", "record")

    def __init__(self, record: HotRecord, offset: ClockOffset) -> None:
        self.record = record
        self.offset = offset
        self.generated_at = record.version * TICK_S + offset.value


class HotTable:
    """The last record of every owner, bounded by the member table: its owner asks `merge` only for members and forgets with them."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self.entries: dict[int, HotEntry] = {}
        self.low: dict[int, int] = {}  # owner -> low bits of its record's version: what digests are made of and compared with

    def merge(self, record: HotRecord, now: float) -> bool:
        """Take `record` if it is newer than what is held."""
        entry = self.entries.get(record.owner)
        if entry is None:
            difference = now - record.version * TICK_S
            self.entries[record.owner] = HotEntry(record, ClockOffset(difference, now, self._window_s))
            self.low[record.owner] = record.version & LOW_BITS
            return True
        if record.version <= entry.record.version:
            return False
        self.low[record.owner] = record.version & LOW_BITS
        generated = record.version * TICK_S
        entry.offset.observe(now - generated, now)
        entry.record = record
        entry.generated_at = generated + entry.offset.value
        return True

    def get(self, owner: int) -> HotRecord | None:
        entry = self.entries.get(owner)
        return None if entry is None else entry.record

    def age_s(self, owner: int, now: float) -> float | None:
        """Seconds since the owner wrote what we hold; None if we hold nothing."""
        entry = self.entries.get(owner)
        return None if entry is None else max(0.0, now - entry.generated_at)

    def freshest(self, count: int) -> list[HotEntry]:
        if len(self.entries) <= count:
            return list(self.entries.values())
        return heapq.nlargest(count, self.entries.values(), key=_GENERATED_AT)

    def forget(self, owner: int) -> None:
        self.entries.pop(owner, None)
        self.low.pop(owner, None)

    def __len__(self) -> int:
        return len(self.entries)


_GENERATED_AT = attrgetter("generated_at")


class HotPublisher:
    """Decides when this node's own load is written anew: on change, at most every `min_publish_s`, at least every `heartbeat_s`."""

    def __init__(self, owner: int, began_at: float, *, min_publish_s: float, heartbeat_s: float) -> None:
        self.owner = owner
        self._began_at = began_at
        self._min_publish_s = min_publish_s
        self._heartbeat_s = heartbeat_s
        self._load: Load | None = None
        self._written: HotRecord | None = None
        self._written_at = began_at

    def set(self, load: Load) -> None:
        self._load = load

    @property
    def load(self) -> Load | None:
        return self._load

    def due_at(self) -> float | None:
        """When the record is to be written; None before the first load."""
        if self._load is None:
            return None
        if self._written is None:
            return self._began_at
        is_changed = quantise(self._load, self.owner, self._written.version) != self._written
        return self._written_at + (self._min_publish_s if is_changed else self._heartbeat_s)

    def write(self, now: float) -> HotRecord | None:
        """The new record if it is due, else None."""
        due_at = self.due_at()
        if due_at is None or self._load is None or due_at > now:
            return None
        version = int((now - self._began_at) / TICK_S) + 1
        if self._written is not None:
            version = max(version, self._written.version + 1)
        if version & LOW_BITS == 0:
            version = successor(version)
        self._written = quantise(self._load, self.owner, version)
        self._written_at = now
        return self._written
