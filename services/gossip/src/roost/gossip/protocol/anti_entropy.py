"""State at work: who tells whom which load records and which cold keys, within the byte budget.

Each round, while a digest of all owners fits a packet, digests go to a few members, who answer with what they hold newer and what they
want; above that size the freshest records are pushed and one digest of a sample is exchanged. Every state packet leaves room for membership
frames. Invariants: state is held for this node and for alive or suspect members only; records of unknown owners are dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from roost.gossip.protocol.cold_state import Applied, ColdState
from roost.gossip.protocol.config import Address
from roost.gossip.protocol.context import Context
from roost.gossip.protocol.events import ColdChanged, HotChanged
from roost.gossip.protocol.hot_state import HotPublisher, HotTable, Load
from roost.gossip.protocol.messages import ColdDelta, Digest, Frame, HotRecord, HotRecords, Want
from roost.gossip.protocol.pace import Pace
from roost.gossip.protocol.timers import TimerKey
from roost.gossip.protocol.versions import expand, is_newer, low

STATE: TimerKey = ("state", 0)
DOUBT: TimerKey = ("doubt", 0)
HOT: TimerKey = ("hot", 0)
COLLECT: TimerKey = ("collect", 0)

HOT_RECORD_BYTES = 13
DIGEST_ENTRY_BYTES = 8
_FRAME_BYTES = 8  # an upper bound of a column frame's own head
_WANT_SHARE = 4  # at most a quarter of a reply asks; the rest tells


class AntiEntropy:
    """The state half of a node."""

    def __init__(self, context: Context, pace: Pace, doubt: Callable[[str, float], None], now: float) -> None:
        self._context = context
        self._parameters = context.config.state
        self._me = context.identity
        self._members = context.members
        self._timers = context.timers
        self._outbox = context.outbox
        self._doubt = doubt
        self.pace = pace
        self.hot = HotTable(self._parameters.clock_window_s)
        self.cold: dict[int, ColdState] = {self._me.owner: ColdState(self._me.owner)}
        self._cold_low: dict[int, int] = {}  # owner -> low bits of its cold version, as in `HotTable.low`
        self._publisher = self._new_publisher(now)
        self._deleted: dict[str, tuple[int, float]] = {}  # our own tombstones: key -> (version, written at)
        self._unanswered: dict[str, float] = {}
        self._cursor = 0
        self._room = context.outbox.room - self._parameters.membership_room_bytes

    def start(self, now: float) -> None:
        if self._parameters.is_enabled:
            self._timers.set(STATE, now + self._context.rng.random() * self._parameters.interval_s)

    # --- our own state ---

    def publish_load(self, load: Load, now: float) -> None:
        self._publisher.set(load)
        self.write_load(now)

    def write_load(self, now: float) -> None:
        """The hot timer: write our record anew if it is due."""
        record = self._publisher.write(now)
        if record is not None:
            self.hot.merge(record, now)
            self._tell_at_once(*self.stamp())
        due_at = self._publisher.due_at()
        if due_at is not None:
            self._timers.set(HOT, due_at)

    def _tell_at_once(self, *news: Frame) -> None:
        """What is new starts its way from several members, not only from us at our next round: small packets that save half a round."""
        if self._parameters.is_enabled:
            for member in self._members.pick(self._parameters.first_told, self._context.rng):
                self._outbox.put(member.address, *news)

    def publish_keys(self, changes: Mapping[str, bytes | None], now: float) -> None:
        """Set or delete cold keys of our own. Raises ColdLimit, having written nothing."""
        held = self.own_cold.version
        for entry in self.own_cold.write(changes):
            if entry.value is None:
                self._deleted[entry.key] = (entry.version, now)
            else:
                self._deleted.pop(entry.key, None)
        if self._deleted and self._timers.deadline(COLLECT) is None:
            self._timers.set(COLLECT, now + self._parameters.tombstone_s)
        self._cold_low[self._me.owner] = low(self.own_cold.version)
        delta = self.own_cold.delta_after(held, self._room, self._outbox.frame_size)
        if delta is not None and self.pace.has_room(now):
            self._tell_at_once(delta)

    def collect_tombstones(self, now: float) -> None:
        """The collect timer: forget our old tombstones."""
        due = {key: v for key, (v, written_at) in self._deleted.items() if written_at + self._parameters.tombstone_s <= now}
        self.own_cold.collect(due)
        self._cold_low[self._me.owner] = low(self.own_cold.version)
        for key in due:
            del self._deleted[key]
        if self._deleted:
            self._timers.set(COLLECT, min(at for _, at in self._deleted.values()) + self._parameters.tombstone_s)

    def be_reborn(self, old_owner: int, now: float) -> None:
        """This node has a new epoch: everything of its own is written anew under the new owner id."""
        keys = self.cold.pop(old_owner).items()
        self.hot.forget(old_owner)
        self._deleted.clear()
        self.cold[self._me.owner] = ColdState(self._me.owner)
        self.own_cold.write(keys)
        self._cold_low.pop(old_owner, None)
        self._cold_low[self._me.owner] = low(self.own_cold.version)
        load = self._publisher.load
        self._publisher = self._new_publisher(now)
        if load is not None:
            self.publish_load(load, now)

    @property
    def own_cold(self) -> ColdState:
        return self.cold[self._me.owner]

    def _new_publisher(self, now: float) -> HotPublisher:
        parameters = self._parameters
        return HotPublisher(self._me.owner, now, min_publish_s=parameters.min_publish_s, heartbeat_s=parameters.heartbeat_s)

    # --- what membership asks (swim.StateSide) ---

    def forget(self, owner: int) -> None:
        self.hot.forget(owner)
        self.cold.pop(owner, None)
        self._cold_low.pop(owner, None)

    def stamp(self) -> tuple[Frame, ...]:
        record = self.hot.get(self._me.owner)
        return () if record is None else (HotRecords((record,)),)

    # --- rounds ---

    def round(self, now: float) -> None:
        """The state timer: one round of exchanges."""
        self.pace.adjust(now)
        self._timers.set(STATE, now + self.pace.interval_s)
        self.doubt_the_silent(now)
        if not self.pace.has_room(now):
            self._context.counters.count("rounds_over_budget")
            return
        targets = self._members.pick(self.pace.fanout, self._context.rng)
        if not targets:
            return
        own = self.stamp()
        if (len(self._members.owners) + 1) * DIGEST_ENTRY_BYTES + HOT_RECORD_BYTES + 2 * _FRAME_BYTES <= self._room:
            asked, frames = targets, (*own, self._digest([self._me.owner, *self._members.owners]))
        else:
            count = min(self._parameters.push_records, self._records_in(self._room))
            freshest = HotRecords(tuple([entry.record for entry in self.hot.freshest(count)]))
            for target in targets:
                self._outbox.put(target.address, freshest)
            asked, frames = self._members.pick(1, self._context.rng), (*own, self._digest(self._sample()))
        for target in asked:
            self._outbox.put(target.address, *frames)
            self._unanswered.setdefault(target.name, now)
        self._timers.set(DOUBT, now + self._parameters.answer_s)

    def heard(self, name: str) -> None:
        """Anything at all came from `name`."""
        self._unanswered.pop(name, None)

    def doubt_the_silent(self, now: float) -> None:
        """The doubt timer: whoever let a digest go unanswered is probed."""
        silent = [name for name, asked_at in self._unanswered.items() if asked_at + self._parameters.answer_s <= now]
        for name in silent:
            del self._unanswered[name]
            self._doubt(name, now)

    def _sample(self) -> list[int]:
        """The next owners in turn, so that a few rounds cover all of them."""
        owners = [self._me.owner, *self._members.owners]
        count = min(self._parameters.sampled_owners, (self._room - HOT_RECORD_BYTES - 2 * _FRAME_BYTES) // DIGEST_ENTRY_BYTES)
        self._cursor %= len(owners)
        chosen = (owners + owners)[self._cursor : self._cursor + min(count, len(owners))]
        self._cursor += count
        return chosen

    def _digest(self, owners: list[int]) -> Digest:
        hot, cold = self.hot.low, self._cold_low
        return Digest(tuple(owners), tuple([hot.get(owner, 0) for owner in owners]), tuple([cold.get(owner, 0) for owner in owners]))

    def _records_in(self, room: int) -> int:
        return max(0, (room - _FRAME_BYTES) // HOT_RECORD_BYTES)

    # --- receiving ---

    def receive_digest(self, digest: Digest, address: Address, now: float) -> bool:
        """Answer with what we hold newer and what we want. True if a cold state is due that only a stream can carry."""
        if not self.pace.has_room(now):
            self._context.counters.count("replies_over_budget")
            self._outbox.put(address, *(self.stamp() or (HotRecords(()),)))  # a sign of life costs next to nothing
            return False
        newer, lacking = self._compare_hot(digest)
        ahead, behind = self._compare_cold(digest)
        asking = self._room // _WANT_SHARE
        want = Want(tuple(lacking[: asking // 8]), tuple(behind[: asking // 16]))
        room = self._room - 4 * len(want.hot) - 8 * len(want.cold) - 2 * _FRAME_BYTES - HOT_RECORD_BYTES
        told = newer[: self._records_in(room)]
        own = self.hot.get(self._me.owner)
        if own is not None and own not in told:
            told.append(own)
        frames: list[Frame] = [HotRecords(tuple(told))]  # even if empty: the asker waits for a sign of life
        if want.hot or want.cold:
            frames.append(want)
        deltas, is_stream_needed = self._deltas(ahead, self._room)
        self._outbox.put(address, *frames, *deltas)
        return is_stream_needed

    def receive_want(self, want: Want, address: Address, now: float) -> bool:
        """The third leg. True if a cold state is due that only a stream can carry."""
        if not self.pace.has_room(now):
            self._context.counters.count("replies_over_budget")
            return False
        records = [entry.record for owner in want.hot if (entry := self.hot.entries.get(owner)) is not None]
        deltas, is_stream_needed = self._deltas(want.cold, self._room)
        told = (HotRecords(tuple(records[: self._records_in(self._room)])),) if records else ()
        if told or deltas:
            self._outbox.put(address, *told, *deltas)
        return is_stream_needed

    def receive_records(self, records: Iterable[HotRecord], now: float) -> None:
        owners, entries, merge = self._members.owners, self.hot.entries, self.hot.merge
        changed: list[str] = []
        for record in records:
            held = entries.get(record.owner)
            if held is not None and record.version <= held.record.version:
                continue
            name = owners.get(record.owner)
            if name is None:
                self._context.counters.count("records_of_strangers")
            elif merge(record, now):
                changed.append(name)
        if changed:
            self._context.emit(HotChanged(tuple(changed)))

    def receive_delta(self, delta: ColdDelta) -> None:
        name = self._members.owners.get(delta.owner)
        if name is None:
            self._context.counters.count("deltas_of_strangers")
            return
        state = self.cold.get(delta.owner) or ColdState(delta.owner)
        applied = state.apply(delta)
        self._context.counters.count(f"deltas_{applied.value}")
        if applied is Applied.NEWS:
            self.cold[delta.owner] = state
            self._cold_low[delta.owner] = low(state.version)
            self._context.emit(ColdChanged(name))

    def _compare_hot(self, digest: Digest) -> tuple[list[HotRecord], list[int]]:
        """Records they lack, and owners whose record we lack. Most entries agree: those are passed over at the speed of a comprehension."""
        low_of, entries, owners = self.hot.low, self.hot.entries, self._members.owners
        newer: list[HotRecord] = []
        lacking: list[int] = []
        for owner, theirs in [pair for pair in zip(digest.owners, digest.hot, strict=True) if low_of.get(pair[0], 0) != pair[1]]:
            if is_newer(low_of.get(owner, 0), theirs):
                newer.append(entries[owner].record)
            elif owner in owners:
                lacking.append(owner)
        return newer, lacking

    def _compare_cold(self, digest: Digest) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Where we are ahead (owner, version they hold) and where we are behind (owner, version we hold)."""
        low_of = self._cold_low
        ahead: list[tuple[int, int]] = []
        behind: list[tuple[int, int]] = []
        for owner, theirs in [pair for pair in zip(digest.owners, digest.cold, strict=True) if low_of.get(pair[0], 0) != pair[1]]:
            version = self.cold[owner].version if owner in self.cold else 0
            if is_newer(low(version), theirs):
                ahead.append((owner, expand(theirs, version)))
            elif owner in self._members.owners:
                behind.append((owner, version))
        return ahead, behind

    def _deltas(self, held: Iterable[tuple[int, int]], room: int) -> tuple[list[ColdDelta], bool]:
        """Deltas for one who holds those versions, in `room` bytes; and whether a complete state did not fit even an empty packet."""
        deltas: list[ColdDelta] = []
        is_stream_needed = False
        left = room
        for owner, version in held:
            state = self.cold.get(owner)
            delta = None if state is None else state.delta_after(version, left, self._outbox.frame_size)
            if delta is not None:
                deltas.append(delta)
                left -= self._outbox.frame_size(delta)
            elif state is not None and left == room and version < state.version:
                is_stream_needed = True
        return deltas, is_stream_needed

    # --- whole states, for streams ---

    def versions(self) -> tuple[tuple[int, int], ...]:
        return tuple((owner, state.version) for owner, state in self.cold.items() if state.version)

    def records(self) -> tuple[HotRecord, ...]:
        return tuple(entry.record for entry in self.hot.entries.values())

    def lacking(self, theirs: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
        """The cold states of known owners in which `theirs` is ahead of us, with the versions we hold."""
        held = {owner: self.cold[owner].version if owner in self.cold else 0 for owner in theirs if owner in self._members.owners}
        return tuple((owner, version) for owner, version in held.items() if theirs[owner] > version)

    def deltas_for(self, theirs: Mapping[int, int], room: int) -> tuple[ColdDelta, ...]:
        """What one who holds those versions lacks of everything we hold."""
        deltas, _ = self._deltas([(owner, theirs.get(owner, 0)) for owner, s in self.cold.items() if s.version], room)
        return tuple(deltas)

    def deltas_wanted(self, wanted: Iterable[tuple[int, int]], room: int) -> tuple[ColdDelta, ...]:
        deltas, _ = self._deltas(wanted, room)
        return tuple(deltas)
