"""One node of the gossip plane as a pure machine: what came in, what the time is, what to send, what happened.

`Node` owns everything below it and knows neither sockets nor clocks. Invariants: `next_timer()` lies after the `now` of the last
`handle_timer`; every datagram fits the limit; after `leave` has completed it says and does nothing more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Generic

from roost.gossip.protocol.anti_entropy import COLLECT, DOUBT, HOT, STATE, AntiEntropy
from roost.gossip.protocol.config import Address, Config
from roost.gossip.protocol.context import Context
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.events import Datagram, EpochRaised, Event, Peer, StreamRequest
from roost.gossip.protocol.hot_state import Load, restore
from roost.gossip.protocol.identity import Identity
from roost.gossip.protocol.membership import Members
from roost.gossip.protocol.messages import (
    Ack,
    Alive,
    ColdDelta,
    ColdPush,
    Dead,
    Digest,
    Frame,
    HotRecords,
    IndirectPing,
    Left,
    Nack,
    Packet,
    Ping,
    PushPull,
    PushPullReply,
    Status,
    StreamAck,
    StreamBody,
    StreamMessage,
    StreamPing,
    Suspect,
    Want,
)
from roost.gossip.protocol.outbox import Outbox
from roost.gossip.protocol.pace import Pace
from roost.gossip.protocol.probing import PROBE
from roost.gossip.protocol.push_pull import JOIN, PUSH_PULL, RECONNECT, PushPulls
from roost.gossip.protocol.rng import Rng
from roost.gossip.protocol.rumours import Rumours
from roost.gossip.protocol.streams import Streams
from roost.gossip.protocol.swim import GOSSIP, LEAVE, PRUNE, RESEED, Swim
from roost.gossip.protocol.timers import TimerKey, Timers
from roost.gossip.protocol.wire import Codec, D, Rejected

REBIRTH_SPREAD = 1_000  # epochs are milliseconds at boot: the clock has caught up in a second


class Node(Generic[D]):
    """A member of the cluster. `D` is what its codec makes of packets: bytes, or the packets themselves."""

    def __init__(self, config: Config, rng: Rng, *, codec: Codec[D], now: float) -> None:
        self.config = config
        self._rng = rng
        self._codec = codec
        self.identity = Identity(config.name, config.address, config.epoch)
        self.counters = Counters()
        self._events: deque[Event] = deque()
        self.timers = Timers()
        self.rumours = Rumours(config.bounds.rumours, codec.frame_size)
        self.members = Members(config.bounds, tombstone_s=config.swim.tombstone_s)
        room = codec.room(config.name)
        self._overhead = config.bounds.datagram_bytes - room
        self.outbox = Outbox(
            room=room, capacity=config.bounds.outbox_frames, frame_size=codec.frame_size, rumours=self.rumours, counters=self.counters
        )
        self._streams = Streams(config.bounds.streams, self.timers, self.counters)
        context = Context(config, rng, self.identity, self.members, self.timers, self.outbox, self._streams, self.counters, self._emit)
        self.pace = Pace(config.state, now)
        self.state = AntiEntropy(context, self.pace, self._doubt, now)
        self.swim = Swim(context, self.rumours, self.state, self._be_reborn)
        self._push_pulls = PushPulls(context, self.swim, self.state)
        self._on_timer = self._timer_table()
        self.swim.start(now)
        self.state.start(now)
        self._push_pulls.start(now)

    # --- commands ---

    def join(self, seeds: Sequence[Address], now: float) -> None:
        """Ask `seeds` (host or DNS name, port) until one answers, then once in a while; [] begins a new cluster."""
        if not self.identity.is_leaving:
            self._push_pulls.join(seeds, now)

    def leave(self, now: float) -> None:
        """Say goodbye. LeaveCompleted follows within a bounded time if the timers are handled."""
        if not self.identity.is_leaving:
            self.swim.leave(now)

    def publish_load(self, load: Load, now: float) -> None:
        """Our worker's load (hot): sent on change, at most twice a second, at least every 5 s."""
        if not self.identity.has_left:
            self.state.publish_load(load, now)

    def publish_keys(self, changes: Mapping[str, bytes | None], now: float) -> None:
        """Set our cold keys; None deletes. Raises ColdLimit, having changed nothing."""
        if not self.identity.has_left:
            self.state.publish_keys(changes, now)

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """Accept packets sealed with any of `keys`, seal with the first. Raises ValueError for a key that is no key."""
        self._codec.set_keys(tuple(keys))

    # --- input ---

    def receive_datagram(self, data: D, addr: Address, now: float) -> None:
        """Take in one datagram; junk is dropped and counted."""
        if self.identity.has_left:
            return
        self.counters.count("datagrams_in")
        try:
            packet = self._codec.decode(data, now)
        except Rejected as rejected:
            self.counters.count(f"rejected_{rejected.reason}")
            return
        if packet.sender == self.identity.name:
            self.counters.count("packets_of_my_name")
            return
        self._notice(packet.sender, packet.epoch, addr, now)
        for frame in packet.frames:
            self._receive_frame(frame, packet, addr, now)

    def receive_stream(self, data: D, now: float) -> D | None:
        """The answer to a request that came over a stream; None if it deserves none."""
        if self.identity.has_left:
            return None
        message = self._decode_stream(data, now)
        if message is None:
            return None
        body = message.body
        if isinstance(body, PushPull):
            return self._encode_stream(self._push_pulls.answer(body, message.sender, now), now)
        if isinstance(body, StreamPing) and body.target == self.identity.name:
            return self._encode_stream(StreamAck(body.request), now)
        if isinstance(body, ColdPush):
            for delta in body.deltas:
                self.state.receive_delta(delta)
            return self._encode_stream(StreamAck(body.request), now)
        self.counters.count("streams_unexpected")
        return None

    def receive_stream_reply(self, request: int, data: D, now: float) -> None:
        """The answer to the StreamRequest of that number."""
        asked = self._streams.settle(request)
        message = self._decode_stream(data, now) if asked is not None and not self.identity.has_left else None
        if asked is None or message is None:
            return
        body = message.body
        if body_request(body) != request:
            self.counters.count("streams_unexpected")
        elif isinstance(body, PushPullReply) and isinstance(asked.body, PushPull):
            self._push_pulls.receive_reply(asked, body, message.sender, now)
        elif isinstance(body, StreamAck) and isinstance(asked.body, StreamPing) and message.sender == asked.body.target:
            self.swim.probing.receive_stream_ack(request)

    def stream_failed(self, request: int) -> None:
        """The StreamRequest of that number could not be sent, or was not answered in time."""
        if self._streams.settle(request) is not None:
            self.counters.count("streams_failed")

    def handle_timer(self, now: float) -> None:
        """Do what is due. Feed what has been received first: what lies unread in a socket must not be held against its sender."""
        due = self.timers.next()
        if due is None or due > now:
            return
        if now - due > self.config.swim.late_s:
            self.swim.postpone(now - due)
        while (key := self.timers.pop_due(now)) is not None:
            self._on_timer[key[0]](key, now)

    # --- output ---

    def datagrams_to_send(self, now: float) -> list[Datagram[D]]:
        """Everything to be sent now; calling it empties the outbox."""
        datagrams: list[Datagram[D]] = []
        silent = self.swim.silent_addresses() if len(self.rumours) else ()
        for parcel in self.outbox.flush(self.swim.rumour_limit, silent):
            size = parcel.size_bytes + self._overhead
            self.pace.spend(size)
            self.counters.count("datagrams_out")
            self.counters.count("bytes_out", size)
            packet = Packet(self.identity.name, self.identity.epoch, parcel.frames)
            datagrams.append(Datagram(parcel.address, self._codec.encode(packet, now)))
        return datagrams

    def stream_requests(self, now: float) -> list[StreamRequest[D]]:
        """Requests to be sent over new streams now."""
        return [
            StreamRequest(asked.request, asked.address, self._encode_stream(asked.body, now), asked.timeout_s)
            for asked in self._streams.drain()
        ]

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def next_timer(self) -> float | None:
        """When `handle_timer` is to be called; None if never."""
        return self.timers.next()

    # --- the view ---

    def peers(self) -> tuple[Peer, ...]:
        """Every other member known, the dead and the left included."""
        return tuple(member.peer() for member in self.members)

    def load_of(self, name: str, now: float) -> tuple[Load, float] | None:
        """A member's last known load and its age in seconds."""
        owner = self._owner(name)
        record = None if owner is None else self.state.hot.get(owner)
        age_s = None if owner is None else self.state.hot.age_s(owner, now)
        return None if record is None or age_s is None else (restore(record), age_s)

    def keys_of(self, name: str) -> Mapping[str, bytes]:
        """A member's cold keys as last heard; empty if nothing is known."""
        owner = self._owner(name)
        state = None if owner is None else self.state.cold.get(owner)
        return {} if state is None else state.items()

    def _owner(self, name: str) -> int | None:
        if name == self.identity.name:
            return self.identity.owner
        member = self.members.get(name)
        return None if member is None else member.owner

    # --- inside ---

    def _timer_table(self) -> Mapping[str, Callable[[TimerKey, float], None]]:
        swim, state, push_pulls = self.swim, self.state, self._push_pulls
        probing = swim.probing
        return {
            PROBE[0]: lambda _, now: probing.begin_probe(now),
            "probe_timeout": lambda key, now: probing.probe_indirectly(int(key[1]), now),
            "verdict": lambda key, now: probing.judge(int(key[1]), now),
            GOSSIP[0]: lambda _, now: swim.gossip(now),
            PRUNE[0]: lambda _, now: swim.prune(now),
            LEAVE[0]: lambda _, __: swim.complete_leave(),
            "suspicion": lambda key, now: swim.expire_suspicion(str(key[1]), now),
            "relay": lambda key, now: probing.end_relay(int(key[1]), now),
            "stream": lambda key, _: self.stream_failed(int(key[1])),
            STATE[0]: lambda _, now: state.round(now),
            DOUBT[0]: lambda _, now: state.doubt_the_silent(now),
            HOT[0]: lambda _, now: state.write_load(now),
            COLLECT[0]: lambda _, now: state.collect_tombstones(now),
            JOIN[0]: lambda _, now: push_pulls.try_seeds(now),
            RESEED[0]: lambda _, now: push_pulls.reseed(now),
            PUSH_PULL[0]: lambda _, now: push_pulls.exchange(now),
            RECONNECT[0]: lambda _, now: push_pulls.reconnect(now),
        }

    def _notice(self, sender: str, epoch: int, addr: Address, now: float) -> None:
        """What a packet says before its frames: its sender lives, perhaps a new life. One from a new address is asked about it."""
        self.state.heard(sender)
        member = self.members.get(sender)
        if member is None or epoch <= member.epoch:
            return
        if addr == member.address:
            self.swim.receive_claim(Alive(sender, addr, epoch, 0), now)
        elif not self.swim.is_second(sender, addr):
            self._push_pulls.exchange_with(addr, now)

    def _receive_frame(self, frame: Frame, packet: Packet, addr: Address, now: float) -> None:
        match frame:
            case HotRecords(records):
                self.state.receive_records(records, now)
            case Digest():
                self._exchange_if(self.state.receive_digest(frame, addr, now), packet.sender, now)
            case Want():
                self._exchange_if(self.state.receive_want(frame, addr, now), packet.sender, now)
            case ColdDelta():
                self.state.receive_delta(frame)
            case Ack():
                self.swim.probing.receive_ack(frame)
            case Ping():
                self.swim.probing.receive_ping(frame, packet.sender, addr)
            case IndirectPing():
                self.swim.probing.receive_indirect_ping(frame, addr, now)
            case Nack():
                self.swim.probing.receive_nack(frame)
            case Alive() | Suspect() | Dead() | Left():
                self.swim.receive_claim(frame, now)

    def _exchange_if(self, is_needed: bool, sender: str, now: float) -> None:  # noqa: FBT001 - named by the function
        member = self.members.get(sender)
        if is_needed and member is not None and member.status is not Status.LEFT:
            self._push_pulls.exchange_with(member.address, now)

    def _doubt(self, name: str, now: float) -> None:
        self.swim.probing.doubt(name, now)

    def _be_reborn(self, after: int, now: float) -> None:
        """Take an epoch later than `after`: the cluster remembers one of ours that is not over for it, or our owner id is another's too.

        How much later is left to chance: an earlier life of ours may have heard and outbid the same one, and what it wrote as the next
        epoch would pass for what we write.
        """
        old_owner = self.identity.owner
        self.identity.be_reborn(after + 1 + int(self._rng.random() * REBIRTH_SPREAD))
        self.state.be_reborn(old_owner, now)
        self.rumours.add(self.identity.alive())
        self._emit(EpochRaised(self.identity.epoch))

    def _emit(self, event: Event) -> None:
        if len(self._events) >= self.config.bounds.events:
            self._events.popleft()
            self.counters.count("events_lost")
        self._events.append(event)

    def _encode_stream(self, body: StreamBody, now: float) -> D:
        return self._codec.encode_stream(StreamMessage(self.identity.name, self.identity.epoch, body), now)

    def _decode_stream(self, data: D, now: float) -> StreamMessage | None:
        try:
            message = self._codec.decode_stream(data, now)
        except Rejected as rejected:
            self.counters.count(f"rejected_{rejected.reason}")
            return None
        if message.sender != self.identity.name:
            return message
        self.counters.count("packets_of_my_name")
        return message if self._push_pulls.meet_namesake(message.body) else None

    def __repr__(self) -> str:
        return f"<Node {self.identity} {self.members} {self.swim.health} {self.rumours} next {self.timers.next()}>"


def body_request(body: StreamBody) -> int:
    """The number that ties an answer to its request."""
    return body.request
