"""One run: chaos for a number of ticks, then calm, then everybody must agree. A run is a pure function of (seed, ticks)."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

from roost.gossip.codec import BytesCodec, ObjectCodec
from roost.gossip.keyring import Keyring
from roost.gossip.protocol.config import Address, StateParameters, SwimParameters
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.messages import Packet, StreamMessage
from roost.gossip.protocol.wire import Codec

from .checkers import (
    Bounded,
    IncarnationsGrow,
    NoResurrection,
    OneStatePerIncarnation,
    SelfLiveness,
    StateIsTheOwners,
    TimersMoveOn,
    Violation,
    disagreements,
)
from .cluster import Cluster, Host
from .network import Weather

D = TypeVar("D")

DEFAULT_TICKS = 60
CALM_LIMIT_S = 240.0  # a lone accuser's suspicion, a pruned row, a round of seeds: all have passed by then
CALM_STEP_S = 4.0
SEEDS: tuple[Address, ...] = (("n0", 7946), ("n1", 7946))  # names, which follow a host that moves
KEY = b"a key of the simulation: 32 byte"

SWIM = SwimParameters(
    push_pull_interval_s=10.0,
    reconnect_interval_s=5.0,
    reseed_interval_s=20.0,
    prune_dead_after_s=45.0,
    prune_left_after_s=15.0,
    max_join_retry_s=8.0,
    tombstone_s=600.0,
)


@dataclass(frozen=True, slots=True)
class Report:
    """What one run was like."""

    seed: int
    ticks: int
    fingerprint: str
    converged_after_s: float
    counts: Counter[str]
    trace: tuple[str, ...] = ()


def objects(_: Host[Packet | StreamMessage], __: random.Random) -> Codec[Packet | StreamMessage]:
    return ObjectCodec()


def sealed_bytes(host: Host[bytes], rng: random.Random) -> Codec[bytes]:
    skew_s = 1_000_000.0 - host.clock_offset_s + rng.uniform(-5, 5)
    return BytesCodec("simulated", keyring=Keyring((KEY,), cluster="simulated", boot=rng.randbytes(12), wall_offset_s=skew_s))


def replay_command(seed: int, ticks: int) -> str:
    return f"make sim SEED={seed} TICKS={ticks}    (python -m services.gossip.tests.simulation --seed {seed} --ticks {ticks})"


def simulate(seed: int, ticks: int = DEFAULT_TICKS, *, is_tracing: bool = False, calm_limit_s: float = CALM_LIMIT_S) -> Report:
    """Run `seed`; every fourth one on sealed bytes, the others on objects. Raises Violation with the command that replays it."""
    rng = random.Random(seed)
    state = StateParameters(interval_s=rng.choice((0.2, 0.5, 0.5, 1.0)), tombstone_s=20.0, heartbeat_s=5.0)
    try:
        if seed % 4 == 3:
            return Chaos(
                Cluster(rng, sealed_bytes, swim=SWIM, state=state), seed, ticks, is_tracing=is_tracing, calm_limit_s=calm_limit_s
            ).run()
        return Chaos(Cluster(rng, objects, swim=SWIM, state=state), seed, ticks, is_tracing=is_tracing, calm_limit_s=calm_limit_s).run()
    except Exception as error:
        raise Violation(f"seed {seed}: {type(error).__name__}: {error}\nreplay with: {replay_command(seed, ticks)}") from error


class Chaos(Generic[D]):
    """The adversary of one run."""

    def __init__(self, cluster: Cluster[D], seed: int, ticks: int, *, is_tracing: bool, calm_limit_s: float) -> None:
        self._cluster = cluster
        self._rng = cluster.rng
        self._seed = seed
        self._ticks = ticks
        self._calm_limit_s = calm_limit_s
        self._counts: Counter[str] = Counter()
        self._partition_ends = 0
        if is_tracing:
            cluster.trace_lines = []
        cluster.watchers += [
            IncarnationsGrow(),
            NoResurrection(),
            OneStatePerIncarnation(),
            SelfLiveness(),
            Bounded(),
            TimersMoveOn(),
            StateIsTheOwners(),
        ]

    def run(self) -> Report:
        cluster = self._cluster
        for i in range(self._rng.randint(4, 7)):
            cluster.add_host(f"n{i}", (f"10.0.0.{i + 1}", 7946), clock_offset_s=self._rng.uniform(0, 10_000))
        for host in cluster.hosts.values():
            self._boot(host)
        for tick in range(self._ticks):
            self._roll(tick)
            cluster.run_until(tick + 1.0)
        converged_after_s = self._calm_down()
        counts = self._counts + cluster.network.counts + cluster.counts
        for host in cluster.running():
            if host.node is not None:
                counts.update(host.node.counters.all)
        trace = tuple(cluster.trace_lines or ())
        return Report(self._seed, self._ticks, cluster.fingerprint, converged_after_s, counts, trace)

    def _calm_down(self) -> float:
        cluster = self._cluster
        cluster.network.weather = Weather()
        cluster.network.cut.clear()
        if len(cluster.running()) < 2:
            for host in cluster.hosts.values():
                if host.node is None:
                    self._boot(host)
        if not any(cluster.hosts[name].node for name, _ in SEEDS):
            self._boot(cluster.hosts[SEEDS[0][0]])  # who came while no seed was there is known to nobody, and has nobody to ask
        start = cluster.now
        while problems := disagreements(cluster):
            if cluster.now - start >= self._calm_limit_s:
                raise Violation(f"no agreement {self._calm_limit_s:.0f} s after the last fault: {'; '.join(problems[:5])}")
            cluster.run_until(cluster.now + CALM_STEP_S)
        return cluster.now - start

    def _boot(self, host: Host[D], epoch: int | None = None) -> None:
        self._cluster.boot(host, seeds=list(SEEDS), epoch=epoch)

    # --- one tick ---

    def _roll(self, tick: int) -> None:
        rng, network = self._rng, self._cluster.network
        loss = rng.choice((0.0, 1.0)) * rng.uniform(0, 0.6)
        network.weather = Weather(loss, rng.uniform(0, 0.2), rng.uniform(0.0005, 0.02), rng.choice((0.0, 1.0)) * rng.uniform(0, 0.2))
        self._roll_partition(tick)
        for host in list(self._cluster.hosts.values()):
            if host.node is None:
                self._roll_stopped(host)
            elif self._cluster.now >= host.paused_until:
                self._roll_running(host)

    def _roll_partition(self, tick: int) -> None:
        rng, cluster = self._rng, self._cluster
        if tick >= self._partition_ends:
            cluster.network.cut.clear()
        if cluster.network.cut or rng.random() > 0.12:
            return
        addresses = [host.address for host in cluster.hosts.values()]
        side = {address for address in addresses if rng.random() < 0.5}
        is_one_way = rng.random() < 0.3
        for a in addresses:
            for b in addresses:
                if (a in side and b not in side) or (not is_one_way and a not in side and b in side):
                    cluster.network.cut.add((a, b))
        self._partition_ends = tick + rng.randint(1, 20)
        self._counts["partitions"] += bool(cluster.network.cut)
        cluster.note(f"partition {sorted(side)} one-way={is_one_way}")

    def _roll_stopped(self, host: Host[D]) -> None:
        rng = self._rng
        if rng.random() > 0.12:
            return
        self._counts["restarts"] += 1
        kind = rng.random()
        if kind < 0.1:
            self._counts["moves"] += 1
            self._cluster.move(host, (f"10.0.{host.lives}.{int(host.name[1:]) + 1}", 7946))
            self._boot(host)
        elif kind < 0.2:
            self._counts["clocks_set_back"] += 1
            self._boot(host, max(host.lives, host.epoch - 500 + host.lives))  # no clock shows the same millisecond twice
        else:
            self._boot(host)

    def _roll_running(self, host: Host[D]) -> None:
        rng, cluster, node = self._rng, self._cluster, host.node
        if node is None:
            return
        fate = rng.random()
        clock = host.clock(cluster.now)
        if fate < 0.015 and len(cluster.running()) > 2:
            self._counts["crashes"] += 1
            cluster.crash(host)
            return
        if fate < 0.022:
            self._counts["leaves"] += 1
            node.leave(clock)
        elif fate < 0.04:
            self._counts["pauses"] += 1
            cluster.pause(host, rng.uniform(0.3, 8.0))
            return
        if rng.random() < 0.4:
            node.publish_load(Load(rng.randrange(50), rng.randrange(8), rng.random(), rng.random() < 0.05), clock)
        if rng.random() < 0.3:
            self._write_keys(host)
        cluster.settle(host)

    def _write_keys(self, host: Host[D]) -> None:
        rng = self._rng
        if host.node is None:
            return
        keys = rng.sample([f"model/{i}" for i in range(12)], rng.randint(1, 3))
        is_large = rng.random() < 0.1
        changes = {key: None if rng.random() < 0.35 else rng.randbytes(400 if is_large else 12) for key in keys}
        host.node.publish_keys(changes, host.clock(self._cluster.now))
