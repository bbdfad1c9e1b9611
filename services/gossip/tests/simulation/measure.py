"""What the protocol reaches, in virtual time on objects: `python -m services.gossip.tests.simulation.measure crash --nodes 100`.

Each measurement prints one line of JSON. Nodes get slightly different clocks; datagrams take 0.2-2 ms unless said otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from roost.gossip.protocol.config import LAN, Address, StateParameters, SwimParameters
from roost.gossip.protocol.events import ColdChanged, Happening, MemberChanged
from roost.gossip.protocol.hot_state import TICK_S, Load
from roost.gossip.protocol.messages import Packet, Status, StreamMessage
from roost.gossip.protocol.rng import sample
from roost.gossip.protocol.suspicion import minimum_timeout_s

from .cluster import Cluster, Host
from .network import Weather
from .run import objects

D = Packet | StreamMessage
Row = dict[str, object]
_LAN_WEATHER = Weather(delay_s=0.0002, jitter_s=0.0018)
_RESTART_S = 1.0  # a process takes about so long to be back
_NO_STATE = StateParameters(is_enabled=False)


def formed(seed: int, nodes: int, *, swim: SwimParameters = LAN, state: StateParameters | None = None, warm_s: float = 8.0) -> Cluster[D]:
    """A cluster in which everybody knows everybody. Members are taught by hand: forming a cluster is not what is measured."""
    cluster = Cluster(random.Random(seed), objects, swim=swim, state=state or StateParameters())
    cluster.network.weather = _LAN_WEATHER
    cluster.is_keeping_events = False
    for i in range(nodes):
        host = cluster.add_host(f"node-{i}", (f"10.0.{i // 250}.{i % 250 + 1}", 7946), clock_offset_s=cluster.rng.uniform(0, 1000))
        cluster.boot(host, seeds=[])
    claims = [host.node.identity.alive() for host in cluster.running() if host.node is not None]
    for host in cluster.running():
        if host.node is not None:
            for claim in claims:
                if claim.name != host.name:
                    host.node.swim.receive_claim(claim, host.clock(0.0))
                    host.node.rumours.drop(claim.name)
            while host.node.next_event() is not None:
                pass
    cluster.run_until(warm_s)
    return cluster


def publish_each_second(cluster: Cluster[D], until: float) -> None:
    """Every node's load changes at 1 Hz, each at its own moment."""

    def publish(host: Host[D]) -> None:
        if host.node is not None:
            load = Load(cluster.rng.randrange(1000), cluster.rng.randrange(8), cluster.rng.random())
            host.node.publish_load(load, host.clock(cluster.now))
            cluster.settle(host)
        if cluster.now < until:
            cluster.at(cluster.now + 1.0, lambda: publish(host))

    for host in cluster.running():
        cluster.at(cluster.now + cluster.rng.random(), lambda host=host: publish(host))  # type: ignore[misc]


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else -1.0


def mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 3)


def move(nodes: int, seconds: float, seed: int) -> Row:
    """Crashes of a member that is back after a second at another address, in one cluster after the other, until everybody has it there."""
    everywhere: list[float] = []
    for trial in range(max(1, int(seconds))):
        cluster = formed(seed + trial, nodes, state=StateParameters() if nodes <= 100 else _NO_STATE, warm_s=1.5 + trial % 3)
        mover, contact = sample(cluster.running(), 2, cluster.rng)
        cluster.crash(mover)
        cluster.run_until(cluster.now + _RESTART_S)
        back_at, address = cluster.now, (f"10.9.0.{trial % 250 + 1}", 7946)
        cluster.move(mover, address)
        cluster.boot(mover, seeds=[contact.address])
        others = [host for host in cluster.running() if host is not mover]
        while not all(_has_at(host, mover.name, address) for host in others) and cluster.now < back_at + 120:
            cluster.run_until(cluster.now + 0.05)
        everywhere.append(cluster.now - back_at)
    return {
        "nodes": nodes,
        "trials": len(everywhere),
        "everywhere_mean_s": mean(everywhere),
        "everywhere_p50_s": quantile(everywhere, 0.5),
        "everywhere_max_s": quantile(everywhere, 1.0),
    }


def _has_at(host: Host[D], name: str, address: Address) -> bool:
    member = None if host.node is None else host.node.members.get(name)
    return member is not None and member.address == address and member.status is Status.ALIVE


def crash(nodes: int, seconds: float, seed: int, victims: int = 1) -> Row:
    """Crashes, in one cluster after the other, each until the dead are dead everywhere."""
    first: list[float] = []
    everywhere: list[float] = []
    suspected: list[float] = []
    suspected_everywhere: list[float] = []
    state_cost = StateParameters() if nodes <= 100 else _NO_STATE
    for trial in range(max(1, int(seconds))):
        cluster = formed(seed + trial, nodes, state=state_cost, warm_s=1.5 + trial % 3)
        crashed = sample(cluster.running(), victims, cluster.rng)
        deaths = _Deaths([victim.name for victim in crashed])
        cluster.watchers.append(deaths)
        crashed_at = cluster.now
        for victim in crashed:
            cluster.crash(victim)
        while len(deaths.dead) < (nodes - victims) * victims and cluster.now < crashed_at + 60:
            cluster.run_until(cluster.now + 0.25)
        suspected.append(max(min(at for (_, v), at in deaths.suspected.items() if v == victim.name) for victim in crashed) - crashed_at)
        suspected_everywhere.append(max(deaths.suspected.values()) - crashed_at)
        first.append(min(deaths.dead.values()) - crashed_at)
        everywhere.append(max(deaths.dead.values()) - crashed_at)
    minimum = minimum_timeout_s(LAN.suspicion_alpha, nodes, LAN.probe_interval_s)
    return {
        "nodes": nodes,
        "victims": victims,
        "trials": len(first),
        "min_suspicion_s": minimum,
        "bound_s": minimum + 1.6,
        "suspected_mean_s": mean(suspected),
        "suspected_max_s": quantile(suspected, 1.0),
        "suspected_everywhere_mean_s": mean(suspected_everywhere),
        "suspected_everywhere_max_s": quantile(suspected_everywhere, 1.0),
        "first_min_s": quantile(first, 0.0),
        "everywhere_mean_s": mean(everywhere),
        "everywhere_p50_s": quantile(everywhere, 0.5),
        "everywhere_max_s": quantile(everywhere, 1.0),
    }


class _Deaths:
    """When each survivor began to suspect each victim, and saw it dead: moments by (survivor, victim)."""

    def __init__(self, victims: Sequence[str]) -> None:
        self._victims = victims
        self.suspected: dict[tuple[str, str], float] = {}
        self.dead: dict[tuple[str, str], float] = {}

    def observe(self, cluster: Cluster[D], host: Host[D]) -> None:
        if host.node is None:
            return
        for victim in self._victims:
            member = host.node.members.get(victim)
            if member is not None and member.status is not Status.ALIVE:
                self.suspected.setdefault((host.name, victim), cluster.now)
                if member.status is Status.DEAD:
                    self.dead.setdefault((host.name, victim), cluster.now)


def loss(nodes: int, seconds: float, seed: int) -> Row:
    """10 % loss, nobody crashed: how many are suspected, how many declared dead; then a fifth of the time without the help of streams."""
    row: Row = {"nodes": nodes, "seconds": seconds, "loss": 0.1}
    for label, has_streams, duration_s in (("", True, seconds), ("_without_streams", False, seconds / 5)):
        cluster = formed(seed, nodes, state=_NO_STATE)
        cluster.network.weather = replace(_LAN_WEATHER, loss=0.1, has_streams=has_streams)
        counts = _count(cluster, duration_s)
        row[f"suspicions{label}"], row[f"declared_dead{label}"] = counts[Happening.SUSPECTED], counts[Happening.DIED]
    return row


def heavy_loss(nodes: int, seconds: float, seed: int) -> Row:
    """A third lost for a minute, nobody crashed, in one cluster after the other: how many are suspected, how many declared dead."""
    suspicions = deaths = 0
    for trial in range(max(1, int(seconds))):
        cluster = formed(seed + trial, nodes)
        cluster.network.weather = replace(_LAN_WEATHER, loss=0.33)
        publish_each_second(cluster, cluster.now + 60.0)
        counts = _count(cluster, 60.0)
        suspicions += counts[Happening.SUSPECTED]
        deaths += counts[Happening.DIED]
    return {"nodes": nodes, "trials": max(1, int(seconds)), "loss": 0.33, "suspicions": suspicions, "declared_dead": deaths}


def slow(nodes: int, seconds: float, seed: int) -> Row:
    """A tenth of the members read everything 0.5-8 s late, again and again: healthy members declared dead, with Lifeguard and without."""
    row: Row = {"nodes": nodes, "seconds": seconds, "slow": max(1, nodes // 10)}
    for is_enabled in (True, False):
        cluster = formed(seed, nodes, swim=replace(LAN, is_lifeguard_enabled=is_enabled), state=_NO_STATE)
        names = [f"node-{i}" for i in range(max(1, nodes // 10))]
        end = cluster.now + seconds

        def stumble(name: str, cluster: Cluster[D] = cluster, end: float = end) -> None:
            host = cluster.hosts[name]
            host.lag_s = 0.0 if host.lag_s or cluster.now > end else cluster.rng.uniform(0.5, 8.0)
            cluster.at(cluster.now + (cluster.rng.uniform(5.0, 20.0) if host.lag_s else 1.0), lambda: stumble(name))

        for name in names:
            stumble(name)
        counts = _count(cluster, seconds, healthy=set(cluster.hosts) - set(names))
        label = "lifeguard" if is_enabled else "plain"
        row[f"{label}_suspicions"], row[f"{label}_declared_dead"] = counts[Happening.SUSPECTED], counts[Happening.DIED]
    return row


def _count(cluster: Cluster[D], seconds: float, healthy: set[str] | None = None) -> dict[Happening, int]:
    cluster.events.clear()
    cluster.is_keeping_events = True
    cluster.run_until(cluster.now + seconds)
    changes = [e for _, _, e in cluster.events if isinstance(e, MemberChanged) and (healthy is None or e.member.name in healthy)]
    return {happening: sum(change.happening is happening for change in changes) for happening in Happening}


def change(nodes: int, seconds: float, seed: int) -> Row:
    """One cold change at one node until the last node has it; every node's load changes at 1 Hz meanwhile."""
    cluster = formed(seed, nodes)
    end = cluster.now + 2.0 + seconds
    publish_each_second(cluster, end)
    cluster.run_until(cluster.now + 2.0)
    last: list[float] = []
    for trial in range(max(1, int(seconds / 1.5))):
        writer = cluster.rng.choice(cluster.running())
        if writer.node is None:
            continue
        cluster.events.clear()
        cluster.is_keeping_events = True
        begun = cluster.now
        writer.node.publish_keys({"model/x": str(trial).encode()}, writer.clock(cluster.now))
        cluster.settle(writer)
        cluster.run_until(cluster.now + 1.5)
        heard = {name: at for at, name, e in cluster.events if isinstance(e, ColdChanged) and e.name == writer.name}
        last.append(max(heard.values()) - begun if len(heard) == nodes - 1 else 9.9)
    return {"nodes": nodes, "trials": len(last), "last_p50_s": quantile(last, 0.5), "last_max_s": round(max(last), 3)}


def staleness(nodes: int, seconds: float, seed: int) -> Row:
    """Every node's load changes at 1 Hz: the true age of the entries of all views, and the bytes it costs."""
    cluster = formed(seed, nodes, warm_s=0.5)
    end = cluster.now + 4.0 + seconds
    publish_each_second(cluster, end)
    cluster.run_until(cluster.now + 4.0)
    began = {h.node.identity.owner: (h, h.node) for h in cluster.running() if h.node is not None}
    bytes_before = sum(node.counters["bytes_out"] for _, node in began.values())
    ages: list[float] = []
    errors: list[float] = []
    lacking = 0
    started, cpu = cluster.now, time.process_time()
    while cluster.now < end:
        cluster.run_until(cluster.now + 0.237)
        for observer, node in began.values():
            lacking += nodes - len(node.state.hot)
            for owner, entry in node.state.hot.entries.items():
                if owner != node.identity.owner:
                    age = cluster.now - (entry.record.version - 1) * TICK_S  # nodes were created at virtual time 0
                    ages.append(age)
                    errors.append(abs(age - (node.state.hot.age_s(owner, observer.clock(cluster.now)) or 0.0)))
    spent = sum(node.counters["bytes_out"] for _, node in began.values()) - bytes_before
    any_node = next(iter(began.values()))[1]
    return {
        "nodes": nodes, "seconds": round(cluster.now - started, 1), "age_p50_s": quantile(ages, 0.5), "age_p99_s": quantile(ages, 0.99),
        "age_max_s": round(max(ages), 3), "lacking": lacking, "age_error_p99_s": quantile(errors, 0.99),
        "bytes_per_s_a_node": round(spent / nodes / (cluster.now - started)), "pace": repr(any_node.pace),
        "cpu_ms_per_node_second": round(1000 * (time.process_time() - cpu) / nodes / (cluster.now - started), 2),
    }  # fmt: skip


MEASUREMENTS: dict[str, Callable[[int, float, int], Row]] = {
    "crash": crash,
    "move": move,
    "two_crashes": lambda nodes, seconds, seed: crash(nodes, seconds, seed, victims=2),
    "loss": loss,
    "heavy_loss": heavy_loss,
    "slow": slow,
    "change": change,
    "staleness": staleness,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=sorted(MEASUREMENTS))
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=6.0, help="virtual seconds (crash, two_crashes, move, heavy_loss: trials)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.process_time()
    row = MEASUREMENTS[arguments.what](arguments.nodes, arguments.seconds, arguments.seed)
    cpu_s = round(time.process_time() - started, 1)
    sys.stdout.write(json.dumps({"measured": arguments.what, "seed": arguments.seed, **row, "cpu_s": cpu_s}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
