"""What a gossip sidecar costs and gives at 5, 50 and 200 members: `python bench/bench_gossip.py [--json]`.

Decisions: the view is brought up to date and a worker is chosen, as `Schedule` does, while every member's load changes once a second and
1,000 decisions a second are asked for. Core: the processor time that one member's protocol takes in each second of a cluster's life, with
sealed datagrams, every load changing once a second, over a perfect network in virtual time. Neither has sockets or gRPC in it; both are
processor time of one thread, so that a busy machine disturbs them little.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import random
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from time import thread_time_ns

from rich.console import Console
from rich.table import Table

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CatalogueModel, Liveness, ModelStatus, ModelTiming, Phase, WorkerState
from roost.gossip.codec import BytesCodec
from roost.gossip.core.local_view import LocalView, sidecar_terms
from roost.gossip.core.records import records_of
from roost.gossip.keyring import Keyring
from roost.gossip.protocol.config import Address, Config
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.events import ColdChanged, Happening, HotChanged, MemberChanged, Peer
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.messages import Status
from roost.gossip.protocol.node import Node
from roost.gossip.record_format import record_from_bytes, record_to_bytes
from roost.placement.decider import Decider
from roost.placement.registry import DEFAULT_POLICY
from roost.placement.request import PlacementRequest

SIZES = (5, 50, 200)
MODELS = 50
READY_EACH = 8
DECISIONS = 4_000  # the first tenth warms up and is not counted
DECISIONS_PER_S = 1_000.0
WARM_S, MEASURED_S = 2.0, 3.0  # of virtual time
DELAY_S = 0.001
KEY = bytes(range(32))
NAMES = tuple(f"model-{number:02}" for number in range(MODELS))
CATALOGUE = tuple(CatalogueModel(name, "simulated", 1_000_000_000, is_simulated=True) for name in NAMES)


@dataclass(frozen=True, slots=True)
class Result:
    members: int
    decisions_per_s: float
    median_us: float
    p99_us: float
    core_ms_per_s: float
    sent_bytes_per_s: float


# --- decisions ------------------------------------------------------------------------------------


class Told:
    """What the node would know of others."""

    def __init__(self, members: int) -> None:
        self.rng = random.Random(members)
        self.names = [f"worker-{number}" for number in range(members)]
        self.loads: dict[str, tuple[Load, float]] = {}
        self.records: dict[str, Mapping[str, bytes]] = {}
        for name in self.names:
            models = self.rng.sample(NAMES, READY_EACH)
            state = WorkerState(
                name,
                models={model: ModelStatus(model, Phase.READY, 1_000_000_000) for model in models},
                timings={model: ModelTiming(0.8, 5.0) for model in models},
                address=f"{name}:8001",
                epoch=1,
                slots=4,
                memory_capacity_bytes=10_000_000_000,
            )
            records = records_of(state, Liveness.LIVE, CATALOGUE)
            self.records[name] = {key: record_to_bytes(record) for key, record in records.items()}
            self.change(name, 0.0)

    def change(self, name: str, now: float) -> None:
        self.loads[name] = Load(self.rng.randrange(6), self.rng.randrange(5), self.rng.random()), now

    def peers(self) -> tuple[Peer, ...]:
        return ()

    def load_of(self, name: str, now: float) -> tuple[Load, float] | None:
        load, written_at = self.loads[name]
        return load, now - written_at

    def keys_of(self, name: str) -> Mapping[str, bytes]:
        return self.records[name]


def decide(members: int) -> list[int]:
    """Nanoseconds of processor time of each decision."""
    told = Told(members)
    view = ClusterView(dead_after_s=1e12, catalogue=CATALOGUE)
    decider = Decider(view, sidecar_terms("bench", DEFAULT_POLICY), rng=told.rng)
    local = LocalView(decider.hear, view.entries, told, Counters(), read=record_from_bytes, wall_offset_s=1e6)
    for name in told.names:
        local.happened(MemberChanged(Happening.JOINED, Peer(name, ("10.0.0.1", 1), 1, 0, Status.ALIVE)))
        local.happened(ColdChanged(name))
    weights = [1 / rank for rank in range(1, MODELS + 1)]  # Zipf, as model popularity is
    spent: list[int] = []
    changes, now = 0.0, 1.0
    for number, model in enumerate(told.rng.choices(NAMES, weights, k=DECISIONS)):
        now += 1 / DECISIONS_PER_S
        changes += members / DECISIONS_PER_S
        while changes >= 1:
            changes -= 1
            name = told.rng.choice(told.names)
            told.change(name, now)
            local.happened(HotChanged((name,)))
        started = thread_time_ns()
        local.refresh(now)
        decider.ask(PlacementRequest(f"r{number}", model), now)
        spent.append(thread_time_ns() - started)
    return spent[DECISIONS // 10 :]


# --- the core -------------------------------------------------------------------------------------


class Plane:
    """Nodes on a perfect network, and the processor time spent inside them."""

    def __init__(self, members: int) -> None:
        self.rng = random.Random(members)
        self.now = 0.0
        self.spent_ns = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._tickets = 0
        self.nodes: dict[Address, Node[bytes]] = {}
        self._wakes: dict[Address, int] = {}
        for number in range(members):
            self._boot(number)
        self._introduce()

    def _boot(self, number: int) -> None:
        config = Config(name=f"node-{number}", address=(f"10.0.{number // 250}.{number % 250 + 1}", 7946), epoch=1)
        ring = Keyring((KEY,), cluster="bench", boot=self.rng.randbytes(12), wall_offset_s=1e6)
        rng = random.Random(self.rng.random())
        self.nodes[config.address] = Node(config, rng, codec=BytesCodec("bench", keyring=ring), now=0.0)

    def _introduce(self) -> None:
        """Everybody knows everybody: forming a cluster is not what is measured."""
        claims = [node.identity.alive() for node in self.nodes.values()]
        for address, node in self.nodes.items():
            for claim in claims:
                if claim.name != node.identity.name:
                    node.swim.receive_claim(claim, 0.0)
                    node.rumours.drop(claim.name)
            self._publish(address)
            self._settle(address)

    def _publish(self, address: Address) -> None:
        load = Load(self.rng.randrange(1000), self.rng.randrange(8), self.rng.random())
        self._work(address, lambda node: node.publish_load(load, self.now))
        self._at(self.now + (1.0 if self.now else self.rng.random()), lambda: self._publish(address))

    def run_until(self, end: float) -> None:
        while self._heap and self._heap[0][0] <= end:
            self.now, _, act = heapq.heappop(self._heap)
            act()
        self.now = end

    def bytes_out(self) -> int:
        return sum(node.counters["bytes_out"] for node in self.nodes.values())

    def _at(self, when: float, act: Callable[[], None]) -> None:
        self._tickets += 1
        heapq.heappush(self._heap, (when, self._tickets, act))

    def _work(self, address: Address, act: Callable[[Node[bytes]], None]) -> None:
        """`act` on a node, its time counted; then what it wants is done."""
        started = thread_time_ns()
        act(self.nodes[address])
        self.spent_ns += thread_time_ns() - started
        self._settle(address)

    def _settle(self, address: Address) -> None:
        node = self.nodes[address]
        started = thread_time_ns()
        datagrams, requests = node.datagrams_to_send(self.now), node.stream_requests(self.now)
        while node.next_event() is not None:
            pass
        due = node.next_timer()
        self.spent_ns += thread_time_ns() - started
        for datagram in datagrams:
            self._deliver(datagram.address, datagram.data, address)
        for request in requests:
            self._exchange(address, request.request, request.address, request.data)
        self._wakes[address] = wake = self._wakes.get(address, 0) + 1
        if due is not None:
            self._at(max(self.now, due), lambda: self._wake(address, wake))

    def _wake(self, address: Address, wake: int) -> None:
        if self._wakes[address] == wake:
            self._work(address, lambda node: node.handle_timer(self.now))

    def _deliver(self, target: Address, data: bytes, source: Address) -> None:
        self._at(self.now + DELAY_S, lambda: self._work(target, lambda node: node.receive_datagram(data, source, self.now)))

    def _exchange(self, asker: Address, request: int, target: Address, data: bytes) -> None:
        def answer(node: Node[bytes]) -> None:
            reply = node.receive_stream(data, self.now)
            if reply is not None:
                self._at(
                    self.now + DELAY_S, lambda: self._work(asker, lambda asking: asking.receive_stream_reply(request, reply, self.now))
                )

        self._at(self.now + DELAY_S, lambda: self._work(target, answer))


def measure(members: int) -> Result:
    gc.collect()
    decisions = decide(members)
    plane = Plane(members)
    plane.run_until(WARM_S)
    gc.collect()
    gc.freeze()  # as the services do after start
    spent, sent = plane.spent_ns, plane.bytes_out()
    plane.run_until(WARM_S + MEASURED_S)
    gc.unfreeze()
    node_seconds = members * MEASURED_S
    return Result(
        members,
        decisions_per_s=1e9 / statistics.fmean(decisions),
        median_us=statistics.median(decisions) / 1e3,
        p99_us=statistics.quantiles(decisions, n=100)[98] / 1e3,
        core_ms_per_s=(plane.spent_ns - spent) / 1e6 / node_seconds,
        sent_bytes_per_s=(plane.bytes_out() - sent) / node_seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What a gossip sidecar decides a second, and what its protocol costs.")
    parser.add_argument("--json", action="store_true", help="one JSON object for each line of the table")
    parser.add_argument("--members", type=int, nargs="+", default=SIZES, help="sizes of the cluster (default 5 50 200)")
    options = parser.parse_args()
    as_json, sizes = options.json, options.members
    table = Table(title=f"Gossip sidecar, every load changing at 1 Hz, {MODELS} models, Python {sys.version.split()[0]}")
    for column in ("members", "decisions/s", "median µs", "p99 µs", "core ms per node-second", "KB/s sent"):
        table.add_column(column, justify="right")
    for result in map(measure, sizes):
        if as_json:
            print(json.dumps({"models": MODELS, **asdict(result)}), flush=True)
        table.add_row(
            f"{result.members}",
            f"{result.decisions_per_s:,.0f}",
            f"{result.median_us:.1f}",
            f"{result.p99_us:.1f}",
            f"{result.core_ms_per_s:.2f}",
            f"{result.sent_bytes_per_s / 1000:.1f}",
        )
    if not as_json:
        Console().print(table)


if __name__ == "__main__":
    main()
