"""Sidecars on networks that lose packets, carry them one way only, or are split. No operator does anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from roost.client.gossip import Membership, MemberStatus

from .networks import Network, network
from .processes import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = ("worker-1", "worker-2", "worker-3", "worker-4")
WATCHED_S = 20.0
HEALED_S = 70.0  # the dead are knocked at about once in 30 s by the cluster as a whole


def all_are(wanted: MemberStatus, *names: str) -> Callable[[Membership], bool]:
    return lambda members: {member.node_id for member in members.members if member.status is wanted} >= set(names)


async def formed(folder: Path, wires: Network) -> Cluster:
    made = Cluster(folder, wires.place)
    for name in NAMES:
        await made.start(name, port="7946", grpc_port="7846")
    await everybody_sees(made, MemberStatus.ALIVE, NAMES, NAMES)
    return made


async def everybody_sees(
    made: Cluster, wanted: MemberStatus, watchers: tuple[str, ...], names: tuple[str, ...], within_s: float = 40.0
) -> None:
    await asyncio.gather(*(made.await_members(watcher, all_are(wanted, *names), within_s) for watcher in watchers))


async def nobody_dies(made: Cluster) -> None:
    """As long as it is watched, no sidecar takes another for dead."""
    watching = [made.await_members(name, lambda members: any(m.status is MemberStatus.DEAD for m in members.members)) for name in NAMES]
    tasks = [asyncio.create_task(one) for one in watching]
    died, _ = await asyncio.wait(tasks, timeout=WATCHED_S, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not died, "\n".join(made.sidecars[name].log.read_text() for name in NAMES)


async def test_with_a_third_of_all_packets_lost_nobody_dies(tmp_path: Path) -> None:
    with network(len(NAMES)) as wires:
        made = await formed(tmp_path, wires)
        try:
            for number in range(1, len(NAMES) + 1):
                wires.drop(number, "--protocol", "udp", "--match", "statistic", "--mode", "random", "--probability", "0.33")
                wires.drop(number, "--protocol", "tcp", "--match", "statistic", "--mode", "random", "--probability", "0.05")
            await nobody_dies(made)
            assert min(wires.lost_packets(number) for number in range(1, len(NAMES) + 1)) > 20
        finally:
            await made.stop()


async def test_over_a_link_that_works_one_way_nobody_dies(tmp_path: Path) -> None:
    with network(len(NAMES)) as wires:
        made = await formed(tmp_path, wires)
        try:
            wires.drop_from(1, 2)
            await nobody_dies(made)
            assert wires.lost_packets(1) > 20
        finally:
            await made.stop()


async def test_a_split_buries_the_other_side_and_heals_by_itself(tmp_path: Path) -> None:
    with network(len(NAMES)) as wires:
        made = await formed(tmp_path, wires)
        try:
            one, other = NAMES[:2], NAMES[2:]
            for number in (1, 2):
                wires.drop_from(number, 3, 4)
            for number in (3, 4):
                wires.drop_from(number, 1, 2)
            await everybody_sees(made, MemberStatus.DEAD, one, other)
            await everybody_sees(made, MemberStatus.DEAD, other, one)
            await everybody_sees(made, MemberStatus.ALIVE, one, one)
            await everybody_sees(made, MemberStatus.ALIVE, other, other)
            wires.heal()
            await everybody_sees(made, MemberStatus.ALIVE, NAMES, NAMES, HEALED_S)
        finally:
            await made.stop()


async def test_all_that_are_killed_at_once_and_started_anew_are_one_cluster_again(tmp_path: Path) -> None:
    with network(len(NAMES)) as wires:
        made = await formed(tmp_path, wires)
        try:
            await asyncio.gather(*(made.sidecars[name].kill() for name in NAMES))
            await asyncio.gather(*(made.start(name, port="7946", grpc_port="7846") for name in NAMES))
            await everybody_sees(made, MemberStatus.ALIVE, NAMES, NAMES, 20.0)
        finally:
            await made.stop()
