"""What the two halves of a node (membership and state) share: each thing is owned by the node and has its own invariants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roost.gossip.protocol.config import Config
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.events import Event
from roost.gossip.protocol.identity import Identity
from roost.gossip.protocol.membership import Members
from roost.gossip.protocol.outbox import Outbox
from roost.gossip.protocol.rng import Rng
from roost.gossip.protocol.streams import Streams
from roost.gossip.protocol.timers import Timers


@dataclass(frozen=True, slots=True)
class Context:
    """Passed down by `Node`, which builds everything once."""

    config: Config
    rng: Rng
    identity: Identity
    members: Members
    timers: Timers
    outbox: Outbox
    streams: Streams
    counters: Counters
    emit: Callable[[Event], None]
