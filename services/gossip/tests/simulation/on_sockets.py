"""Staleness and processor time on real sockets: `python -m services.gossip.tests.simulation.on_sockets --nodes 100 --seconds 20`.

All nodes live in one process and one event loop, each with its own driver, UDP and TCP socket and seals; every load changes once a second.
There is no gRPC. Where the processor is too slow for so many nodes, ages say so and not the protocol: see `loop_late_p99_s`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from roost.gossip.codec import BytesCodec
from roost.gossip.driver import Driver, driving
from roost.gossip.keyring import Keyring
from roost.gossip.protocol.config import Config
from roost.gossip.protocol.events import Event
from roost.gossip.protocol.hot_state import TICK_S, Load
from roost.gossip.protocol.messages import Status
from roost.gossip.protocol.node import Node
from roost.gossip.sockets import bound

from .measure import Row, quantile

FORM_S = 60.0
KEY = bytes(range(32))


@dataclass(frozen=True, slots=True)
class Member:
    driver: Driver
    began_at: float


def ignore(_: Event, __: float) -> None:
    """Nobody listens."""


async def start(stack: AsyncExitStack, number: int, seed: int) -> Member:
    rng = random.Random()
    ring = Keyring((KEY,), cluster="sockets", boot=rng.randbytes(12), wall_offset_s=time.time() - time.monotonic())
    sockets = stack.enter_context(bound("127.0.0.1", 0))
    config = Config(name=f"node-{number}", address=("127.0.0.1", sockets.port), epoch=time.time_ns() // 1_000_000)
    began_at = time.monotonic()
    node = Node(config, rng, codec=BytesCodec("sockets", keyring=ring), now=began_at)
    driver = await stack.enter_async_context(driving(node, sockets, clock=time.monotonic, heard=ignore))
    driver.join([("127.0.0.1", seed)] if seed else [])
    return Member(driver, began_at)


async def publish(members: list[Member], late: list[float]) -> None:
    """Each member's load changes once a second, one after the other."""
    rng, due = random.Random(1), time.monotonic()
    while True:
        for member in members:
            due += 1.0 / len(members)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            late.append(time.monotonic() - due)
            member.driver.publish_load(Load(rng.randrange(1000), rng.randrange(8), rng.random()))


def ages(members: list[Member]) -> list[float]:
    """The true ages of all entries of all views, now."""
    now = time.monotonic()
    began = {member.driver.node.identity.owner: member.began_at for member in members}
    entries = ((member, owner, entry) for member in members for owner, entry in member.driver.node.state.hot.entries.items())
    return [
        now - began[owner] - (entry.record.version - 1) * TICK_S
        for member, owner, entry in entries
        if owner != member.driver.node.identity.owner
    ]


async def staleness(nodes: int, seconds: float) -> Row:
    """Raises TimeoutError if they do not find each other."""
    late: list[float] = []
    seen: list[float] = []
    async with AsyncExitStack() as stack:
        members = [await start(stack, 0, 0)]
        for number in range(1, nodes):
            members.append(await start(stack, number, members[0].driver.node.config.address[1]))
            await asyncio.sleep(0.05)
        async with asyncio.timeout(FORM_S):
            while any(member.driver.node.members.reachable_count < nodes - 1 for member in members):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.2)
        publishing = asyncio.create_task(publish(members, late))
        await asyncio.sleep(5.0)
        gc.collect()
        gc.freeze()
        late.clear()
        sent = sum(member.driver.node.counters["bytes_out"] for member in members)
        began_at, cpu = time.monotonic(), time.process_time()
        looking = 0.0
        while time.monotonic() < began_at + seconds:
            await asyncio.sleep(0.737)
            looked = time.process_time()
            seen += ages(members)
            looking += time.process_time() - looked
        passed, spent = time.monotonic() - began_at, time.process_time() - cpu - looking
        sent = sum(member.driver.node.counters["bytes_out"] for member in members) - sent
        publishing.cancel()
        doubted = sum(peer.status is not Status.ALIVE for member in members for peer in member.driver.node.peers())
    return {
        "nodes": nodes, "seconds": round(passed, 1), "samples": len(seen), "age_p50_s": quantile(seen, 0.5),
        "age_p99_s": quantile(seen, 0.99), "age_max_s": round(max(seen), 3),
        "bytes_per_s_a_node": round(sent / nodes / passed), "not_alive": doubted,
        "cpu_ms_per_node_second": round(1000 * spent / nodes / passed, 2), "loop_late_p99_s": quantile(late, 0.99),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    row = asyncio.run(staleness(arguments.nodes, arguments.seconds))
    sys.stdout.write(json.dumps({"measured": "on_sockets", **row}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
