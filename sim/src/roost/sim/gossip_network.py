"""The gossip protocol in virtual time: its nodes as they are (`roost.gossip.protocol`), and a network that is an object.

State: one node for each living sidecar, and which of them do not reach each other. Datagrams take 0.2 to 2 ms, messages of streams twice
that. What a node says goes on the agenda; what the agenda brings is said to a node, and whatever that made it say is taken out at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from roost.gossip.codec import ObjectCodec
from roost.gossip.protocol.config import Address, Config, StateParameters
from roost.gossip.protocol.events import Datagram, Event, StreamRequest
from roost.gossip.protocol.messages import Packet, StreamMessage
from roost.gossip.protocol.node import Node
from roost.sim.agenda import Agenda
from roost.sim.seeds import rng_for

Said = Packet | StreamMessage
SimNode = Node[Said]
Heard = Callable[[int, Event], None]

FASTEST_S = 0.0002
SPREAD_S = 0.0018
REFUSED_S = 0.001  # an address where nobody listens says so

EPOCH_STEP = 1_000  # between two lives: the protocol may raise an epoch by itself


def address_of(number: int) -> Address:
    """A node's address; any distinct ones will do."""
    return (f"10.{number // 62_500}.{number // 250 % 250}.{number % 250 + 1}", 7946)


def _rarer(interval_s: float) -> StateParameters:
    """A cluster that exchanges state that rarely; loads that do not change are written as often as loads that do, if that is rarer."""
    usual = StateParameters()
    return replace(
        usual,
        interval_s=interval_s,
        max_interval_s=max(interval_s, usual.max_interval_s),
        min_publish_s=max(interval_s, usual.min_publish_s),
        heartbeat_s=max(interval_s, usual.heartbeat_s),
    )


class GossipNetwork:
    """Nodes by number. `heard` is called with each event of each node.

    `interval_s`: between rounds of state exchange, and between two writings of a load at least; 0.0: as the sidecars do.
    """

    def __init__(self, agenda: Agenda, names: Sequence[str], seed: int, heard: Heard, *, interval_s: float = 0.0) -> None:
        self._state = _rarer(interval_s) if interval_s else StateParameters()
        self.nodes: list[SimNode | None] = [None] * len(names)
        self.cut: set[int] = set()  # they reach each other, and nobody else
        self._agenda = agenda
        self._names = names
        self._seed = seed
        self._heard = heard
        self._rng = rng_for(seed, "gossip network")
        self._lives = [0] * len(names)
        self._wakes = [0] * len(names)
        self._numbers = {address_of(number): number for number in range(len(names))}

    # --- life -------------------------------------------------------------------------------------

    def form(self) -> None:
        """Everybody lives and knows everybody: how a cluster comes together is not what is simulated."""
        for number in range(len(self._names)):
            self.boot(number, [])
        claims = [(number, node.identity.alive()) for number, node in enumerate(self.nodes) if node is not None]
        for own, node in enumerate(self.nodes):
            if node is None:
                continue
            for number, claim in claims:
                if number != own:
                    node.swim.receive_claim(claim, self._agenda.now)
                    node.rumours.drop(claim.name)
            self.settle(own)

    def boot(self, number: int, seeds: Sequence[int]) -> SimNode:
        """A new life that asks `seeds` for the others."""
        self._lives[number] += 1
        life = self._lives[number]
        config = Config(state=self._state, name=self._names[number], address=address_of(number), epoch=life * EPOCH_STEP)
        rng: Random = rng_for(self._seed, f"node {number} life {life}")
        node = Node(config, rng, codec=ObjectCodec(config.bounds), now=self._agenda.now)
        self.nodes[number] = node
        node.join([address_of(seed) for seed in seeds], self._agenda.now)
        self.settle(number)
        return node

    def crash(self, number: int) -> None:
        self.nodes[number] = None
        self._wakes[number] += 1

    def reaches(self, one: int, other: int) -> bool:
        """Whether anything gets through between the two."""
        return (one in self.cut) is (other in self.cut)

    # --- driving a node ---------------------------------------------------------------------------

    def settle(self, number: int) -> None:
        """Take everything out of a node: datagrams, streams, events, its next timer."""
        node = self.nodes[number]
        if node is None:
            return
        now = self._agenda.now
        for datagram in node.datagrams_to_send(now):
            self._send(number, datagram)
        for request in node.stream_requests(now):
            _Exchange(self, number, node, request)
        while (event := node.next_event()) is not None:
            self._heard(number, event)
        due = node.next_timer()
        self._wakes[number] += 1
        if due is not None:
            self._agenda.at(due, self._wake, (number, self._wakes[number]))

    def _wake(self, told: tuple[int, int]) -> None:
        number, wake = told
        node = self.nodes[number]
        if node is None or self._wakes[number] != wake:
            return
        node.handle_timer(max(self._agenda.now, node.next_timer() or 0.0))
        self.settle(number)

    def _send(self, source: int, datagram: Datagram[Said]) -> None:
        target = self._numbers.get(datagram.address)
        if target is not None and self.reaches(source, target):
            self._agenda.at(self._agenda.now + self.delay_s(), self._arrive, (source, target, datagram.data))

    def _arrive(self, sent: tuple[int, int, Said]) -> None:
        source, target, data = sent
        node = self.nodes[target]
        if node is not None:
            node.receive_datagram(data, address_of(source), self._agenda.now)
            self.settle(target)

    def delay_s(self) -> float:
        return FASTEST_S + SPREAD_S * self._rng.random()

    def number_at(self, address: Address) -> int | None:
        return self._numbers.get(address)

    @property
    def agenda(self) -> Agenda:
        return self._agenda


class _Exchange:
    """One question over a stream: its way there, the answer's way back, or its failure. Over once."""

    def __init__(self, network: GossipNetwork, source: int, node: SimNode, request: StreamRequest[Said]) -> None:
        self._network = network
        self._source = source
        self._node = node
        self._request = request
        self._is_over = False
        agenda, target = network.agenda, network.number_at(request.address)
        agenda.at(agenda.now + request.timeout_s, self._fail, None)
        if target is not None and network.reaches(source, target):
            agenda.at(agenda.now + 2 * network.delay_s(), self._reach, target)

    def _reach(self, target: int) -> None:
        network, agenda = self._network, self._network.agenda
        other = network.nodes[target]
        if other is None:
            agenda.at(agenda.now + REFUSED_S, self._fail, None)
            return
        reply = other.receive_stream(self._request.data, agenda.now)
        network.settle(target)
        if reply is not None and network.reaches(self._source, target):
            agenda.at(agenda.now + 2 * network.delay_s(), self._answered, reply)

    def _answered(self, reply: Said) -> None:
        if self._is_current():
            self._node.receive_stream_reply(self._request.request, reply, self._network.agenda.now)
            self._network.settle(self._source)

    def _fail(self, _: None) -> None:
        if self._is_current():
            self._node.stream_failed(self._request.request)
            self._network.settle(self._source)

    def _is_current(self) -> bool:
        """True once, while the asker lives."""
        was_over, self._is_over = self._is_over, True
        return not was_over and self._network.nodes[self._source] is self._node
