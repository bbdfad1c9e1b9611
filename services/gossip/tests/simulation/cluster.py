"""Hosts, each with its own clock, and the one heap of things to come that drives their nodes through virtual time."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from roost.gossip.protocol.config import Address, Config, StateParameters, SwimParameters
from roost.gossip.protocol.events import ClusterJoined, Event, LeaveCompleted, MemberChanged
from roost.gossip.protocol.node import Node
from roost.gossip.protocol.wire import Codec

from .network import Network

D = TypeVar("D")


@dataclass(slots=True)
class Host(Generic[D]):
    """A machine: it has a clock of its own and, while its process runs, a node."""

    name: str
    address: Address
    clock_offset_s: float
    node: Node[D] | None = None
    lives: int = 0
    epoch: int = 0
    paused_until: float = 0.0
    lag_s: float = 0.0  # what arrives is read so much later, while timers fire in time
    inbox: list[Callable[[Node[D], float], None]] = field(default_factory=list)
    wakes: int = 0  # only the latest wake-up counts

    def clock(self, now: float) -> float:
        return now + self.clock_offset_s


class Watcher(Protocol[D]):
    """Looks at a host after everything that happened to it."""

    def observe(self, cluster: Cluster[D], host: Host[D]) -> None: ...


class Cluster(Generic[D]):
    """Runs hosts until a given time. The same seed and the same calls give the same trace, byte for byte."""

    def __init__(
        self,
        rng: random.Random,
        make_codec: Callable[[Host[D], random.Random], Codec[D]],
        *,
        swim: SwimParameters,
        state: StateParameters,
    ) -> None:
        self.rng = rng
        self.network = Network(random.Random(rng.randrange(2**62)))
        self._make_codec = make_codec
        self._swim = swim
        self._state = state
        self.now = 0.0
        self.hosts: dict[str, Host[D]] = {}
        self._by_address: dict[Address, Host[D]] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = 0
        self.watchers: list[Watcher[D]] = []
        self.events: list[tuple[float, str, Event]] = []
        self.is_keeping_events = True
        self.counts: Counter[str] = Counter()
        self._hash = hashlib.sha256()
        self.trace_lines: list[str] | None = None

    # --- the world's own verbs ---

    def add_host(self, name: str, address: Address, *, clock_offset_s: float = 0.0) -> Host[D]:
        host: Host[D] = Host(name, address, clock_offset_s)
        self.hosts[name] = host
        self._by_address[address] = host
        return host

    def move(self, host: Host[D], address: Address) -> None:
        """Give a stopped host another address."""
        del self._by_address[host.address]
        host.address = address
        self._by_address[address] = host

    def boot(self, host: Host[D], *, seeds: list[Address], epoch: int | None = None) -> Node[D]:
        host.lives += 1
        host.epoch = epoch if epoch is not None else host.epoch + 1_000
        host.inbox.clear()
        host.paused_until = 0.0
        config = Config(name=host.name, address=host.address, epoch=host.epoch, swim=self._swim, state=self._state)
        rng = random.Random(self.rng.randrange(2**62))
        host.node = Node(config, rng, codec=self._make_codec(host, rng), now=host.clock(self.now))
        host.node.join(seeds, host.clock(self.now))
        self.note(f"boot {host.name} e{host.epoch}")
        self.settle(host)
        return host.node

    def crash(self, host: Host[D]) -> None:
        self.note(f"crash {host.name}")
        host.node = None
        host.inbox.clear()

    def pause(self, host: Host[D], seconds: float) -> None:
        """The process stands still; what arrives waits in its sockets."""
        self.note(f"pause {host.name} {seconds:.3f}")
        host.paused_until = self.now + seconds
        self.at(host.paused_until, lambda: self._resume(host))

    def running(self) -> list[Host[D]]:
        return [host for host in self.hosts.values() if host.node is not None]

    def run_until(self, end: float) -> None:
        while self._heap and self._heap[0][0] <= end:
            self.now, _, act = heapq.heappop(self._heap)
            act()
        self.now = end

    def at(self, when: float, act: Callable[[], None]) -> None:
        self._tickets += 1
        heapq.heappush(self._heap, (when, self._tickets, act))

    def note(self, line: str) -> None:
        text = f"{self.now:.6f} {line}\n"
        self._hash.update(text.encode())
        if self.trace_lines is not None:
            self.trace_lines.append(text)

    @property
    def fingerprint(self) -> str:
        """The hash of the trace so far."""
        return self._hash.hexdigest()

    # --- driving a node, as a driver of sockets would ---

    def settle(self, host: Host[D]) -> None:
        """Take everything out of a node: datagrams, streams, events, its next timer."""
        node = host.node
        if node is None:
            return
        clock = host.clock(self.now)
        for datagram in node.datagrams_to_send(clock):
            for delay in self.network.datagram(host.address, datagram.address):
                self._deliver_later(delay, host.address, datagram.address, datagram.data)
        for request in node.stream_requests(clock):
            self._carry_stream(host, node, request.request, request.address, request.data, request.timeout_s)
        has_left = False
        while (event := node.next_event()) is not None:
            self._take_event(host, event)
            has_left = has_left or isinstance(event, LeaveCompleted)
        if not has_left:
            self._wake_later(host, node)
        for watcher in self.watchers:
            watcher.observe(self, host)  # of a node that has left, too: what it wrote last is on its way
        if has_left:
            host.node = None

    def _take_event(self, host: Host[D], event: Event) -> None:
        self.counts[type(event).__name__] += 1
        if isinstance(event, MemberChanged):
            self.counts[event.happening.value] += 1
        if self.is_keeping_events:
            self.events.append((self.now, host.name, event))
            self.note(f"event {host.name} {event}")
        if isinstance(event, ClusterJoined):
            self.counts["joined_cluster"] += 1

    def _wake_later(self, host: Host[D], node: Node[D]) -> None:
        due = node.next_timer()
        host.wakes += 1
        if due is None:
            return
        wake = host.wakes
        self.at(max(self.now, due - host.clock_offset_s), lambda: self._wake(host, wake))

    def _wake(self, host: Host[D], wake: int) -> None:
        if host.node is None or host.wakes != wake or self.now < host.paused_until:
            return
        node = host.node
        due = node.next_timer()
        node.handle_timer(max(host.clock(self.now), due if due is not None else 0.0))  # never early by a rounding error
        self.settle(host)

    def _resume(self, host: Host[D]) -> None:
        if host.node is None or self.now < host.paused_until:
            return
        node, inbox = host.node, host.inbox[:]
        host.inbox.clear()
        for feed in inbox:
            feed(node, host.clock(self.now))
        node.handle_timer(host.clock(self.now))
        self.settle(host)

    def _feed(self, host: Host[D], feed: Callable[[Node[D], float], None]) -> None:
        if host.node is None:
            return
        if host.lag_s:
            node = host.node
            self.at(self.now + host.lag_s, lambda: self._feed_late(host, node, feed))
            return
        self._feed_now(host, feed)

    def _feed_late(self, host: Host[D], node: Node[D], feed: Callable[[Node[D], float], None]) -> None:
        if host.node is node:
            self._feed_now(host, feed)

    def _feed_now(self, host: Host[D], feed: Callable[[Node[D], float], None]) -> None:
        if host.node is None:
            return
        if self.now < host.paused_until:
            host.inbox.append(feed)
            return
        feed(host.node, host.clock(self.now))
        self.settle(host)

    def _deliver_later(self, delay: float, source: Address, target: Address, data: D) -> None:
        def arrive() -> None:
            host = self._by_address.get(target)
            if host is not None and host.node is not None:
                self.note(f"datagram {source[0]} > {target[0]}")
                self._feed(host, lambda node, clock: node.receive_datagram(data, source, clock))

        self.at(self.now + delay, arrive)

    def _carry_stream(self, host: Host[D], node: Node[D], request: int, target: Address, data: D, timeout_s: float) -> None:
        named = self.hosts.get(target[0])
        if named is not None:
            target = named.address  # a seed's name is looked up at each attempt
        deadline = self.now + timeout_s
        is_over = False

        def fail() -> None:
            nonlocal is_over
            if not is_over and host.node is node:
                is_over = True
                self.note(f"stream failed {host.name} {request}")
                node.stream_failed(request)
                self.settle(host)

        def succeed(reply: D) -> None:
            nonlocal is_over
            if not is_over and host.node is node and self.now <= deadline:
                is_over = True
                self.note(f"stream answered {host.name} {request}")
                self._feed(host, lambda at, clock: at.receive_stream_reply(request, reply, clock))

        def reach() -> None:
            other = self._by_address.get(target)
            if other is None or other.node is None:
                self.at(self.now + 0.001, fail)  # refused
                return
            self._feed(other, lambda at, clock: answer(other, at.receive_stream(data, clock)))

        def answer(other: Host[D], reply: D | None) -> None:
            delay = self.network.stream(other.address, host.address)
            if reply is not None and delay is not None:
                self.at(self.now + delay, lambda: succeed(reply))

        delay = self.network.stream(host.address, target)
        if delay is not None:
            self.at(self.now + delay, reach)
        self.at(deadline, fail)
