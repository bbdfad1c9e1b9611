"""Crash detection beside kinship, a Rust SWIM with Lifeguard from PyPI: both with their LAN profile, sealed, on real sockets.

`pip install kinship`, then `python -m services.gossip.tests.simulation.beside_kinship --nodes 20 --trials 10`. In each trial both clusters
run at once in this process, one member of each is stopped at the same moment without a goodbye, and the time is taken until each survivor
has it dead. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Protocol

import kinship

from roost.gossip.codec import BytesCodec
from roost.gossip.driver import driving
from roost.gossip.keyring import Keyring
from roost.gossip.protocol.config import Config
from roost.gossip.protocol.events import Event, Happening, MemberChanged
from roost.gossip.protocol.node import Node
from roost.gossip.protocol.suspicion import minimum_timeout_s
from roost.gossip.sockets import bound

FORM_S, SETTLE_S, GIVE_UP_S = 30.0, 3.0, 60.0
KEY = bytes(range(32))
Notice = Callable[[str, str], None]  # observer, who is dead


class Life(Protocol):
    """A member in a task of its own: runs until `end`, `known` other members in view."""

    name: str
    end: asyncio.Event
    port: int

    async def run(self, seed: int) -> None: ...

    def known(self) -> int: ...


class RoostLife:
    def __init__(self, name: str, notice: Notice) -> None:
        self.name, self.port, self.end = name, 0, asyncio.Event()
        self._notice = notice
        self._node: Node[bytes] | None = None

    def known(self) -> int:
        return 0 if self._node is None else self._node.members.reachable_count

    async def run(self, seed: int) -> None:
        rng = random.Random()
        ring = Keyring((KEY,), cluster="beside", boot=rng.randbytes(12), wall_offset_s=time.time() - time.monotonic())
        with bound("127.0.0.1", 0) as sockets:
            config = Config(name=self.name, address=("127.0.0.1", sockets.port), epoch=time.time_ns() // 1_000_000)
            self._node = Node(config, rng, codec=BytesCodec("beside", keyring=ring), now=time.monotonic())
            async with driving(self._node, sockets, clock=time.monotonic, heard=self._hear) as driver:
                driver.join([("127.0.0.1", seed)] if seed else [])
                self.port = sockets.port
                await self.end.wait()

    def _hear(self, event: Event, _: float) -> None:
        if isinstance(event, MemberChanged) and event.happening is Happening.DIED:
            self._notice(self.name, event.member.name)


class KinshipLife:
    def __init__(self, name: str, notice: Notice) -> None:
        self.name, self.port, self.end = name, 0, asyncio.Event()
        self._notice = notice
        self._cluster: kinship.Cluster | None = None

    def known(self) -> int:
        return 0 if self._cluster is None else len(self._cluster.members()) - 1

    async def run(self, seed: int) -> None:
        seeds = [f"127.0.0.1:{seed}"] if seed else []
        config = kinship.Config.lan(name=self.name, bind="127.0.0.1:0", seeds=seeds, keys=[KEY], cluster="beside")
        self._cluster = kinship.Cluster(config)
        await self._cluster.start()
        listening = asyncio.create_task(self._listen(self._cluster))
        self.port = int(self._cluster.local.addr.rpartition(":")[2])
        await self.end.wait()
        listening.cancel()
        await self._cluster.close()  # without leave(): the others see a crash

    async def _listen(self, cluster: kinship.Cluster) -> None:
        async for event in cluster.events():
            if isinstance(event, kinship.MemberDead):
                self._notice(self.name, event.member.name)


async def until(fact: Callable[[], bool], seconds: float) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110 - kinship tells of members only to those who ask
            await asyncio.sleep(0.02)


async def trial(kinds: tuple[Callable[[str, Notice], Life], ...], nodes: int, rng: random.Random) -> list[list[float]]:
    """For each kind, how long after the crash each survivor had the victim dead."""
    crashed_at = float("inf")
    victim = f"node-{rng.randrange(1, nodes)}"
    seen: list[dict[str, float]] = [{} for _ in kinds]

    def notice_of(times: dict[str, float]) -> Notice:
        def notice(observer: str, dead: str) -> None:
            if dead == victim:
                times.setdefault(observer, time.monotonic() - crashed_at)

        return notice

    clusters = [[kind(f"node-{i}", notice_of(times)) for i in range(nodes)] for kind, times in zip(kinds, seen, strict=True)]
    lives = [life for cluster in clusters for life in cluster]
    async with asyncio.TaskGroup() as tasks:
        for cluster in clusters:
            tasks.create_task(cluster[0].run(0))
            await until(lambda first=cluster[0]: first.port > 0, FORM_S)  # type: ignore[misc]
            for life in cluster[1:]:
                tasks.create_task(life.run(cluster[0].port))
        await until(lambda: all(life.known() == nodes - 1 for life in lives), FORM_S)
        await asyncio.sleep(SETTLE_S + rng.random())
        crashed_at = time.monotonic()
        for life in lives:
            if life.name == victim:
                life.end.set()
        await until(lambda: all(len(times.keys() - {victim}) == nodes - 1 for times in seen), GIVE_UP_S)
        for life in lives:
            life.end.set()
    return [[at for name, at in times.items() if name != victim] for times in seen]


async def compare(nodes: int, trials: int, seed: int) -> dict[str, object]:
    rng = random.Random(seed)
    rows = [await trial((RoostLife, KinshipLife), nodes, rng) for _ in range(trials)]
    row: dict[str, object] = {"nodes": nodes, "trials": trials, "min_suspicion_s": round(minimum_timeout_s(4, nodes, 1.0), 3)}
    means = []
    for position, name in enumerate(("roost", "kinship")):
        everywhere = [max(times[position]) for times in rows]
        means.append(statistics.fmean(everywhere))
        row[f"{name}_first_min_s"] = round(min(min(times[position]) for times in rows), 2)
        row[f"{name}_everywhere_mean_s"] = round(means[-1], 2)
        row[f"{name}_everywhere_max_s"] = round(max(everywhere), 2)
    return {**row, "ratio_of_means": round(means[0] / means[1], 3)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    row = asyncio.run(compare(arguments.nodes, arguments.trials, arguments.seed))
    sys.stdout.write(json.dumps({"measured": "beside_kinship", "kinship": kinship.__version__, **row}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
