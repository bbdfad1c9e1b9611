"""What nodes say to each other, as immutable values. How they look as bytes is the codec's business.

A datagram carries a `Packet` of frames; a stream carries one `StreamMessage` and is answered with one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from roost.gossip.protocol.config import Address


class Status(enum.IntEnum):
    """What a claim says of a member. Within one epoch a leave is final; else within one incarnation the larger value wins."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


# --- membership -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? Only the node of that name answers."""

    sequence: int
    target: str


@dataclass(frozen=True, slots=True)
class IndirectPing:
    """Ping `target` for me; answer with an Ack or, at 80 % of the probe timeout, with a Nack."""

    sequence: int
    target: str
    address: Address


@dataclass(frozen=True, slots=True)
class Ack:
    """I am here (or: the one you asked me about is)."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Nack:
    """I hear you; the one you asked me about has not answered yet."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Alive:
    """`name` lives its life `epoch` at `address`. Said first by itself."""

    name: str
    address: Address
    epoch: int
    incarnation: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """`accuser` got no answer from `name`."""

    name: str
    epoch: int
    incarnation: int
    accuser: str


@dataclass(frozen=True, slots=True)
class Dead:
    """A suspicion of `name` ran out at `accuser`."""

    name: str
    epoch: int
    incarnation: int
    accuser: str


@dataclass(frozen=True, slots=True)
class Left:
    """`name` said goodbye. Final for this epoch."""

    name: str
    epoch: int
    incarnation: int


Claim = Alive | Suspect | Dead | Left

# --- state ----------------------------------------------------------------------------------------


class HotRecord(NamedTuple):
    """A worker's load at one moment, quantised: 13 bytes on the wire. A NamedTuple because thousands a second are built.

    `owner` is the owner's id (hash of name and epoch), `version` the moment in ticks of the owner's clock since its epoch began,
    `gpu` utilisation in percent, plus 128 if the worker is draining.
    """

    owner: int
    version: int
    queue_depth: int
    busy_slots: int
    gpu: int


@dataclass(frozen=True, slots=True)
class HotRecords:
    """Load records of many owners, in columns on the wire."""

    records: tuple[HotRecord, ...]


@dataclass(frozen=True, slots=True)
class Digest:
    """What the sender holds: for each owner the low 16 bits of its hot and its cold version (serial numbers, RFC 1982)."""

    owners: tuple[int, ...]
    hot: tuple[int, ...]
    cold: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Want:
    """The answer to a digest that was ahead: records I lack, and my exact cold versions."""

    hot: tuple[int, ...]
    cold: tuple[tuple[int, int], ...]  # (owner, version held)


@dataclass(frozen=True, slots=True)
class ColdEntry:
    """One key at one version; value None is a tombstone."""

    key: str
    version: int
    value: bytes | None


@dataclass(frozen=True, slots=True)
class ColdDelta:
    """Changes of one owner's keys after `after`, up to `version`, oldest first.

    `floor`: tombstones up to it are forgotten, so whoever is below it needs a complete state (`is_complete`: nothing omitted).
    """

    owner: int
    after: int
    version: int
    floor: int
    is_complete: bool
    entries: tuple[ColdEntry, ...]


Frame = Ping | IndirectPing | Ack | Nack | Alive | Suspect | Dead | Left | HotRecords | Digest | Want | ColdDelta


@dataclass(frozen=True, slots=True)
class Packet:
    """One datagram."""

    sender: str
    epoch: int
    frames: tuple[Frame, ...]


# --- streams --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamPing:
    """The ping that gets through where UDP does not."""

    request: int
    target: str


@dataclass(frozen=True, slots=True)
class StreamAck:
    """The answer to a StreamPing or a ColdPush."""

    request: int


@dataclass(frozen=True, slots=True)
class MemberEntry:
    """One row of a member table."""

    name: str
    address: Address
    epoch: int
    incarnation: int
    status: Status


@dataclass(frozen=True, slots=True)
class PushPull:
    """Everything the sender holds, with exact cold versions in place of the cold states."""

    request: int
    members: tuple[MemberEntry, ...]
    hot: tuple[HotRecord, ...]
    cold: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PushPullReply:
    """The same the other way, with the cold states that the asker lacked and the versions held where the asker was ahead."""

    request: int
    members: tuple[MemberEntry, ...]
    hot: tuple[HotRecord, ...]
    deltas: tuple[ColdDelta, ...]
    wanted: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ColdPush:
    """The third leg of a push/pull: cold states the replier lacked."""

    request: int
    deltas: tuple[ColdDelta, ...]


StreamBody = StreamPing | StreamAck | PushPull | PushPullReply | ColdPush


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One message of a stream."""

    sender: str
    epoch: int
    body: StreamBody
