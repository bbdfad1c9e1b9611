"""Sidecars and workers as processes, for the tests of this folder: on loopback, or each in a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from roost.client.client import RoostClient
from roost.client.gossip import GossipClient, Membership, MemberStatus
from roost.cluster.worker_state import Liveness

START_S = 40.0  # a process starts in under 2 s; a busy machine may take many times that
MODELS = '[models.sim-a]\nengine = "simulated"\nsource = "published"\nsize = "100MB"\noptions = { time_scale = 0.02 }\n'


class Process:
    """One started process, its log, and what it said of its ports."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    async def said(self, event: str) -> dict[str, str]:
        """The keys of the first line of the log with that event."""
        async with asyncio.timeout(START_S):
            while True:
                for line in self.log.read_text().splitlines():
                    if event in line:
                        return dict(word.split("=", 1) for word in line.split() if "=" in word)
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """kill -9."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member's processes run: an address, and what starts a command there."""

    host: str = "127.0.0.1"
    entering: tuple[str, ...] = ()


class Cluster:
    def __init__(self, folder: Path, places: Callable[[str], Place] = lambda _: Place()) -> None:
        self.folder = folder
        self._place_of = places
        self.sidecars: dict[str, Process] = {}
        self.workers: dict[str, Process] = {}
        self.grpc: dict[str, str] = {}
        self.port: dict[str, str] = {}
        (folder / "models.toml").write_text(MODELS)

    async def start(self, name: str, *, port: str = "0", grpc_port: str = "0", extra: Sequence[str] = ()) -> None:
        place = self._place_of(name)
        seeds = ",".join(f"{self._place_of(other).host}:{port}" for other, port in self.port.items())
        options = (
            "--node-id",
            name,
            "--host",
            place.host,
            "--port",
            port,
            "--grpc-port",
            grpc_port,
            "--metrics-port",
            "0",
            "--seeds",
            seeds,
            *extra,
        )
        self.sidecars[name] = await self._spawn(f"sidecar-{name}", place, "roost.gossip", options)
        said = await self.sidecars[name].said("sidecar_started")
        self.grpc[name], self.port[name] = f"{place.host}:{said['grpc_port']}", said["port"]

    async def start_worker(self, name: str) -> None:
        options = ("--node-id", name, "--port", "0", "--metrics-port", "0", "--coordinator-host", "", "--sidecar", self.grpc[name])
        models = ("--models", str(self.folder / "models.toml"), "--memory", "300MB")
        self.workers[name] = await self._spawn(name, self._place_of(name), "roost.worker", (*options, *models))

    async def _spawn(self, name: str, place: Place, module: str, options: Sequence[str]) -> Process:
        log = self.folder / f"{name}-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            environment = {key: value for key, value in os.environ.items() if not key.startswith("ROOST_")}
            process = await asyncio.create_subprocess_exec(
                *place.entering, sys.executable, "-m", module, *options, stdout=output, stderr=asyncio.subprocess.STDOUT, env=environment
            )
        return Process(process, log)

    async def await_live(self, asked: str, *names: str) -> None:
        async with (
            asyncio.timeout(START_S),
            RoostClient(self.grpc[asked]) as client,
            contextlib.aclosing(client.watch(0.05)) as states,
        ):
            async for state in states:
                if {worker.state.node_id for worker in state.workers if worker.liveness is Liveness.LIVE} >= set(names):
                    return

    async def await_members(self, asked: str, holds: Callable[[Membership], bool], within_s: float = START_S) -> float:
        """Seconds until the members, as that sidecar knows them, came to hold."""
        started = time.monotonic()
        async with (
            asyncio.timeout(within_s),
            GossipClient(self.grpc[asked]) as client,
            contextlib.aclosing(client.watch_members(0.05)) as changes,
        ):
            async for members in changes:
                if holds(members):
                    break
        return time.monotonic() - started

    async def stop(self) -> None:
        for process in (*self.workers.values(), *self.sidecars.values()):
            await process.kill()


@contextlib.asynccontextmanager
async def cluster(folder: Path, size: int) -> AsyncIterator[Cluster]:
    made = Cluster(folder)
    try:
        names = [f"worker-{number}" for number in range(1, size + 1)]
        for name in names:
            await made.start(name)
        for name in names:
            await made.start_worker(name)
        for name in names:
            await made.await_live(name, *names)
        yield made
    finally:
        await made.stop()


def status(name: str, wanted: MemberStatus) -> Callable[[Membership], bool]:
    return lambda members: any(member.node_id == name and member.status is wanted for member in members.members)


def epoch_of(members: Membership, name: str) -> int:
    return next(member.epoch for member in members.members if member.node_id == name)
