"""A few nodes that talk over a perfect, instant network, in time that the test moves by hand."""

from __future__ import annotations

import random

from roost.gossip.codec import ObjectCodec
from roost.gossip.protocol.config import LAN, Address, Bounds, Config, StateParameters, SwimParameters
from roost.gossip.protocol.events import Event, Happening, MemberChanged
from roost.gossip.protocol.messages import Alive, Frame, Packet, StreamMessage
from roost.gossip.protocol.node import Node

ObjectNode = Node[Packet | StreamMessage]
QUIET = StateParameters(is_enabled=False)


def address_of(name: str) -> Address:
    return (f"10.1.0.{sum(name.encode()) % 250 + 1}", 7946)


def make_node(
    name: str,
    *,
    now: float = 0.0,
    epoch: int = 10,
    address: Address | None = None,
    swim: SwimParameters = LAN,
    state: StateParameters = QUIET,
    bounds: Bounds | None = None,
    seed: int = 1,
) -> ObjectNode:
    bounds = bounds or Bounds()
    config = Config(name=name, address=address or address_of(name), epoch=epoch, swim=swim, state=state, bounds=bounds)
    return Node(config, random.Random(seed), codec=ObjectCodec(bounds), now=now)


def alive(name: str, *, epoch: int = 10, incarnation: int = 0, address: Address | None = None) -> Alive:
    return Alive(name, address or address_of(name), epoch, incarnation)


def hear(node: ObjectNode, sender: str, *frames: Frame, now: float = 0.0, epoch: int = 10) -> None:
    """`node` receives a packet from `sender`."""
    node.receive_datagram(Packet(sender, epoch, frames), address_of(sender), now)


def sent(node: ObjectNode, now: float = 0.0) -> list[tuple[Address, Frame]]:
    """Every frame that `node` sends now, with where it goes."""
    frames: list[tuple[Address, Frame]] = []
    for datagram in node.datagrams_to_send(now):
        assert isinstance(datagram.data, Packet)
        frames += [(datagram.address, frame) for frame in datagram.data.frames]
    return frames


def events(node: ObjectNode) -> list[Event]:
    taken: list[Event] = []
    while (event := node.next_event()) is not None:
        taken.append(event)
    return taken


def happenings(node: ObjectNode) -> list[tuple[str, Happening]]:
    return [(event.member.name, event.happening) for event in events(node) if isinstance(event, MemberChanged)]


def run_timers(node: ObjectNode, until: float) -> list[tuple[Address, Frame]]:
    """Handle every timer up to `until`, each in its time; returns what was sent meanwhile."""
    frames: list[tuple[Address, Frame]] = []
    while (due := node.next_timer()) is not None and due <= until:
        node.handle_timer(due)
        frames += sent(node, due)
    return frames
