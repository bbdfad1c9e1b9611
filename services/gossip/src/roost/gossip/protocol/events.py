"""What a node tells its owner through `next_event()`, and the work it hands to a driver."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic

from roost.gossip.protocol.config import Address
from roost.gossip.protocol.messages import Status
from roost.gossip.protocol.wire import D


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of one member at one moment."""

    name: str
    address: Address
    epoch: int
    incarnation: int
    status: Status


class Happening(enum.Enum):
    """Why a member's row changed."""

    JOINED = "joined"
    RESTARTED = "restarted"  # a new epoch
    RECOVERED = "recovered"  # a suspicion or a death was refuted
    SUSPECTED = "suspected"
    DIED = "died"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """Something happened to another member."""

    happening: Happening
    member: Peer


@dataclass(frozen=True, slots=True)
class NameConflict:
    """Two living nodes use one name; the first holder stays. Said once for each claimant."""

    name: str
    holder: Address
    claimant: Address


@dataclass(frozen=True, slots=True)
class EpochRaised:
    """We took a new epoch: the cluster remembered a later life of ours, or our owner id collided with another's."""

    epoch: int


@dataclass(frozen=True, slots=True)
class ClusterJoined:
    """A seed answered."""

    seed: Address


@dataclass(frozen=True, slots=True)
class HotChanged:
    """New load records of these members arrived."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ColdChanged:
    """Cold keys of this member changed."""

    name: str


@dataclass(frozen=True, slots=True)
class LeaveCompleted:
    """The goodbye has been said often enough; the process may end."""


Event = MemberChanged | NameConflict | EpochRaised | ClusterJoined | HotChanged | ColdChanged | LeaveCompleted


@dataclass(frozen=True, slots=True)
class Datagram(Generic[D]):
    """To be sent now, unreliably."""

    address: Address
    data: D


@dataclass(frozen=True, slots=True)
class StreamRequest(Generic[D]):
    """To be sent over a new stream; its answer goes to `receive_stream_reply`, its failure to `stream_failed`.

    The host of `address` may be a DNS name where a seed was given so: resolve it now, not from a cache of ours.
    """

    request: int
    address: Address
    data: D
    timeout_s: float
