"""Whole states over streams: joining through seeds, the periodic exchange with a random member, and knocking at the doors of the dead.

A remote *dead* is taken as *suspect*, so that one who lives can say so. Invariant: until a seed has led to a member that lives, or after
everybody else is gone, the join timer runs whenever there are seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from roost.gossip.protocol.anti_entropy import AntiEntropy
from roost.gossip.protocol.config import Address
from roost.gossip.protocol.context import Context
from roost.gossip.protocol.events import ClusterJoined
from roost.gossip.protocol.messages import (
    Alive,
    ColdPush,
    Left,
    MemberEntry,
    PushPull,
    PushPullReply,
    Status,
    StreamBody,
    Suspect,
)
from roost.gossip.protocol.rng import jittered, sample
from roost.gossip.protocol.streams import Asked, Purpose
from roost.gossip.protocol.swim import RESEED, Swim
from roost.gossip.protocol.timers import TimerKey

JOIN: TimerKey = ("join", 0)
PUSH_PULL: TimerKey = ("push_pull", 0)
RECONNECT: TimerKey = ("reconnect", 0)

_SEEDS_AT_ONCE = 8  # of a longer list a random choice is asked at each attempt
_MAX_SEEDS = 1_024
_EXTRA_EXCHANGE_S = 1.0  # a cold state too large for packets asks for a stream at most this often


def interval_scale(members: int, threshold: int) -> int:
    """1 up to `threshold` (32) members, then ⌈log2 n − log2 threshold⌉ + 1, so that the cluster's total stays bearable."""
    if members <= threshold:
        return 1
    return math.ceil(math.log2(members) - math.log2(threshold)) + 1


class PushPulls:
    """Asks for and answers exchanges of whole states."""

    def __init__(self, context: Context, swim: Swim, state: AntiEntropy) -> None:
        self._context = context
        self._parameters = context.config.swim
        self._me = context.identity
        self._members = context.members
        self._timers = context.timers
        self._swim = swim
        self._state = state
        self._seeds: tuple[Address, ...] = ()
        self._retry_s = self._parameters.join_retry_s
        self._extra_after = -math.inf

    def start(self, now: float) -> None:
        self._timers.set(PUSH_PULL, now + self._context.rng.random() * self._parameters.push_pull_interval_s)
        self._timers.set(RECONNECT, now + jittered(self._parameters.reconnect_interval_s, self._context.rng))

    # --- when to ask ---

    def join(self, seeds: Sequence[Address], now: float) -> None:
        """Ask `seeds` until one answers. An empty list makes this node the first of its cluster."""
        self._seeds = tuple(seed for seed in dict.fromkeys(seeds) if seed != self._me.address)[:_MAX_SEEDS]
        self._retry_s = self._parameters.join_retry_s
        if self._seeds:
            self._timers.set(JOIN, now)

    def try_seeds(self, now: float) -> None:
        """The join timer."""
        rng = self._context.rng
        for seed in sample(self._seeds, _SEEDS_AT_ONCE, rng):
            self._ask(seed, Purpose.JOIN, now)
        self._timers.set(JOIN, now + jittered(self._retry_s, rng, 0.5))
        self._retry_s = min(self._parameters.max_join_retry_s, 2 * self._retry_s)

    def reseed(self, now: float) -> None:
        """The reseed timer: islands find each other through a common seed; one who is all alone, or just became so, joins anew."""
        if not self._members.reachable_count:
            self.join(self._seeds, now)
            return
        self._timers.set(RESEED, now + jittered(self._swim.reseed_interval_s, self._context.rng))
        for seed in sample(self._unreached() or self._seeds, 1, self._context.rng):
            self._ask(seed, Purpose.JOIN, now)

    def _unreached(self) -> tuple[Address, ...]:
        """The seeds at which nobody is known to live, names among them."""
        reached = {member.address for member in self._members.reachable()}
        return tuple(seed for seed in self._seeds if seed not in reached)

    def exchange(self, now: float) -> None:
        """The push/pull timer."""
        scale = interval_scale(self._swim.cluster_size, self._parameters.push_pull_threshold)
        self._timers.set(PUSH_PULL, now + jittered(self._parameters.push_pull_interval_s * scale, self._context.rng))
        for member in self._members.pick(1, self._context.rng):
            self._ask(member.address, Purpose.PUSH_PULL, now)

    def exchange_with(self, address: Address, now: float) -> None:
        """An exchange out of turn, because something does not fit a packet."""
        if now >= self._extra_after:
            self._extra_after = now + _EXTRA_EXCHANGE_S
            self._ask(address, Purpose.PUSH_PULL, now)

    def reconnect(self, now: float) -> None:
        """The reconnect timer: the more are dead, the likelier we try one; the whole cluster tries each about once an interval (Serf)."""
        rng = self._context.rng
        self._timers.set(RECONNECT, now + jittered(self._parameters.reconnect_interval_s, rng))
        dead = self._members.dead()
        if dead and rng.random() * self._swim.cluster_size < len(dead):
            self._ask(dead[rng.randrange(len(dead))].address, Purpose.PUSH_PULL, now)

    def _ask(self, address: Address, purpose: Purpose, now: float) -> None:
        streams = self._context.streams
        request = streams.next_request()
        body = PushPull(request, self._rows(), self._state.records(), self._state.versions())
        streams.ask(Asked(request, purpose, address, body, self._parameters.stream_timeout_s), now)

    # --- being asked, being answered ---

    def answer(self, asked: PushPull, sender: str, now: float) -> PushPullReply:
        """Take in what the asker holds, then say what we hold. One of our own name is only told who holds it."""
        if sender == self._me.name:
            return PushPullReply(asked.request, (self._me.entry(),), (), (), ())
        self._merge(asked.members, sender, now)
        self._state.receive_records(asked.hot, now)
        theirs = dict(asked.cold)
        room = self._context.config.bounds.stream_bytes // 2
        deltas, wanted = self._state.deltas_for(theirs, room), self._state.lacking(theirs)
        rows = (*self._rows(), *self._grave_of(asked.members, sender))
        return PushPullReply(asked.request, rows, self._state.records(), deltas, wanted)

    def receive_reply(self, asked: Asked, reply: PushPullReply, sender: str, now: float) -> None:
        """Take in the answer; push the cold states the other side wants."""
        if sender == self._me.name:
            return  # a namesake: reported already
        self._merge(reply.members, sender, now)
        self._state.receive_records(reply.hot, now)
        for delta in reply.deltas:
            self._state.receive_delta(delta)
        deltas = self._state.deltas_wanted(reply.wanted, self._context.config.bounds.stream_bytes // 2)
        if deltas:
            streams = self._context.streams
            request = streams.next_request()
            push: StreamBody = ColdPush(request, deltas)
            streams.ask(Asked(request, Purpose.COLD_PUSH, asked.address, push, self._parameters.stream_timeout_s), now)
        if not self._members.reachable_count:
            return  # it is leaving, or knows nobody who lives: others may, or it may itself in its next life
        if asked.purpose is Purpose.JOIN and self._timers.deadline(JOIN) is not None:
            self._timers.cancel(JOIN)
            self._context.emit(ClusterJoined(asked.address))
        if self._seeds and self._timers.deadline(JOIN) is None and self._timers.deadline(RESEED) is None:
            self._timers.set(RESEED, now + jittered(self._swim.reseed_interval_s, self._context.rng))

    def meet_namesake(self, body: StreamBody) -> bool:
        """A message from one of our own name: False if it is we ourselves (or no exchange), else the conflict is reported."""
        if not isinstance(body, PushPull | PushPullReply):
            return False
        for row in body.members:
            if row.name == self._me.name and row.address != self._me.address:
                self._swim.report_conflict(row.name, row.address, self._me.address)
                return True
        return False

    def _rows(self) -> tuple[MemberEntry, ...]:
        rows = (MemberEntry(m.name, m.address, m.epoch, m.incarnation, m.status) for m in self._members)
        return (self._me.entry(), *rows)

    def _grave_of(self, rows: Sequence[MemberEntry], sender: str) -> tuple[MemberEntry, ...]:
        """Why we refuse a sender we have buried: it has to hear of the life that ended, or it could never come back."""
        grave = self._members.tombstone(sender)
        if grave is None or self._members.get(sender) is not None:
            return ()
        epoch, _, incarnation, status = grave
        return tuple(MemberEntry(sender, row.address, epoch, incarnation, Status(status)) for row in rows if row.name == sender)[:1]

    def _merge(self, rows: Sequence[MemberEntry], sender: str, now: float) -> None:
        """Take in the sender's rows, its own first: the table behind it may be about to fill."""
        for row in sorted(rows, key=lambda row: row.name != sender):
            self._merge_row(row, now)

    def _merge_row(self, row: MemberEntry, now: float) -> None:
        swim, me = self._swim, self._me
        accusation = Suspect(row.name, row.epoch, row.incarnation, me.name)
        is_gone = row.status in (Status.DEAD, Status.LEFT)
        if row.name == me.name and row.epoch > me.epoch and (is_gone or row.address == me.address):
            swim.receive_claim(Alive(row.name, me.address, row.epoch, row.incarnation), now)  # our own later life
        elif row.status is Status.ALIVE:
            swim.receive_claim(Alive(row.name, row.address, row.epoch, row.incarnation), now)
        elif row.status is Status.LEFT:
            swim.receive_claim(Left(row.name, row.epoch, row.incarnation), now, is_hearsay=True)
        elif row.status is Status.DEAD and row.name != me.name and self._members.get(row.name) is None:
            self._context.counters.count("claims_unknown")
        else:
            if row.status is Status.SUSPECT and row.name != me.name:
                swim.receive_claim(Alive(row.name, row.address, row.epoch, row.incarnation), now)
            swim.receive_claim(accusation, now, is_hearsay=True)
