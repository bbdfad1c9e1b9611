"""Builds the sidecar: every object once, handed to those that need it. Reading `sidecar` is reading the service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from roost.cluster.view import ClusterView
from roost.gossip.codec import BytesCodec
from roost.gossip.core.local_view import NEVER_S, LocalView, sidecar_terms
from roost.gossip.core.publishing import Publishing
from roost.gossip.driver import Driver, driving
from roost.gossip.keyring import BOOT_BYTES, Keyring
from roost.gossip.keys import Keys, read_key_file
from roost.gossip.metrics import GossipMetrics, Seen
from roost.gossip.operator import Operator
from roost.gossip.own_worker import OwnWorker, Voice
from roost.gossip.plane import NAME, GossipPlane
from roost.gossip.protocol.config import Address, Config
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.messages import Status
from roost.gossip.protocol.node import Node
from roost.gossip.reach import OtherSidecars, SidecarReach
from roost.gossip.record_format import record_from_bytes, record_to_bytes
from roost.gossip.roster import Roster
from roost.gossip.servicers.gossip import GossipServicer
from roost.gossip.servicers.operating import SidecarOperatorServicer
from roost.gossip.settings import GossipSettings
from roost.gossip.sockets import Sockets, advertised, bound, split
from roost.placement.decider import Decider
from roost.placement.plans.registry import plans_named
from roost.placement.records import DecisionRecords
from roost.service.addresses import join
from roost.service.logs import get_logger
from roost.service.metrics import ServiceMetrics, serve_metrics
from roost.service.operating.errands import Errands
from roost.service.operating.operations import Operations
from roost.service.operating.streams import CommandIds
from roost.service.scheduler.cataloguing import DeciderCatalogue
from roost.service.scheduler.desk import Desk
from roost.service.scheduler.recorder import RecordingTap, recording
from roost.service.scheduler.servicer import SchedulerServicer
from roost.service.scheduler.shell import DeciderShell
from roost.service.scheduler.taps import Tap
from roost.service.server import RpcServer, ServiceBinding, rpc_server
from roost.service.streams import StopSignal
from roost.v1 import coordinator_pb2_grpc, gossip_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc

STOP_GRACE_S: Final = 0.5  # for calls that are being answered; streams are told at once
GAUGES_EVERY_S: Final = 1.0  # one pass over all members; scrapes come every few seconds
TICK_S: Final = 0.25
GOSSIP: Final = "roost.v1.Gossip"
SCHEDULER: Final = "roost.v1.Scheduler"
COORDINATOR: Final = "roost.v1.Coordinator"  # what operators call of it


@dataclass(frozen=True, slots=True)
class RunningSidecar:
    """The ports it was given, and what tests and tools look at. `left` is set when an operator wants it to end; `reload` reads its
    catalogue again.
    """

    node_id: str
    port: int
    grpc_port: int
    metrics_port: int
    address: Address
    driver: Driver
    plane: GossipPlane
    worker: OwnWorker
    left: asyncio.Event
    reload: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def sidecar(settings: GossipSettings) -> AsyncIterator[RunningSidecar]:
    """A sidecar that serves while the block runs, and then stops: not serving, streams told, goodbye said, ports closed.

    Raises CannotStart: a file cannot be read, or a port is taken.
    """
    registry = CollectorRegistry()
    service_metrics = ServiceMetrics("gossip", registry)
    metrics = GossipMetrics(registry, settings.policy)
    with bound(settings.host, settings.port) as sockets, _recording(settings, metrics) as recorded:
        core = _core(settings, sockets, metrics, recorded)
        async with driving(core.node, sockets, clock=time.monotonic, heard=core.plane.heard) as driver:
            life = _Life(core, driver, settings)
            listening = rpc_server(
                host=settings.host, port=settings.grpc_port, services=life.services, metrics=service_metrics.grpc, tls=settings.tls
            )
            async with asyncio.TaskGroup() as tasks, listening as server:
                with serve_metrics(registry, settings.metrics_host, settings.metrics_port) as exposition:
                    life.begin(server.port)
                    clocks = (life.keep_time(), life.keep_gauges(), life.run_errands(), service_metrics.measure_event_loop_lag())
                    running = [tasks.create_task(clock) for clock in clocks]
                    try:
                        yield life.running(sockets.port, server.port, exposition.port)
                    finally:
                        await life.wind_down(server)
                        for task in running:
                            task.cancel()


@dataclass(frozen=True, slots=True)
class _Core:
    """What exists before anything listens."""

    node: Node[bytes]
    ring: Keyring | None
    plane: GossipPlane
    errands: Errands
    metrics: GossipMetrics
    counters: Counters
    catalogue: DeciderCatalogue


def _recording(settings: GossipSettings, metrics: GossipMetrics) -> contextlib.AbstractContextManager[RecordingTap | None]:
    wall_offset_s = time.time() - time.monotonic()
    return recording(
        settings.record, settings.record_bytes, plane="gossip", wall_offset_s=wall_offset_s, changed=metrics.recorded, log=get_logger()
    )


def _core(settings: GossipSettings, sockets: Sockets, metrics: GossipMetrics, recorded: RecordingTap | None) -> _Core:
    """Raises CannotStart."""
    catalogue = DeciderCatalogue(settings.models, "ROOST_GOSSIP_MODELS", log=get_logger())
    ring = None if settings.key_file is None else _ring(read_key_file(settings.key_file), settings.cluster)
    address = advertised(settings.advertise, settings.host, sockets, settings.seed_addresses)
    config = Config(name=settings.name, address=address, epoch=time.time_ns() // 1_000_000, swim=settings.swim)
    rng = random.Random()  # noqa: S311  # spreads load and gossip; guards nothing
    node = Node(config, rng, codec=BytesCodec(settings.cluster, keyring=ring), now=time.monotonic())
    terms = sidecar_terms(f"g{config.epoch:x}", settings.policy, aging_s=settings.aging_s, plans=plans_named(settings.plans))
    decider = Decider(
        ClusterView(dead_after_s=NEVER_S, catalogue=catalogue.models),
        terms,
        rng=rng,
        records=DecisionRecords(settings.remember) if settings.remember else None,
    )
    errands = Errands(timeout_s=settings.command_timeout_s, log=get_logger())
    taps: list[Tap] = [metrics]
    if recorded is not None:
        recorded.begin(decider)
        taps.append(recorded)
    shell = DeciderShell(decider, clock=time.monotonic, taps=taps, load=errands.begin)
    catalogue.hear = shell.hear
    counters = Counters()
    local = LocalView(
        shell.hear, decider.view.entries, node, counters, read=record_from_bytes, wall_offset_s=time.time() - time.monotonic()
    )
    return _Core(node, ring, GossipPlane(shell, local, node, log=get_logger()), errands, metrics, counters, catalogue)


def _ring(keys: tuple[bytes, ...], cluster: str) -> Keyring:
    return Keyring(keys, cluster=cluster, boot=os.urandom(BOOT_BYTES), wall_offset_s=time.time() - time.monotonic())


class _Life:
    """The parts that need the driver, and the steps of beginning, keeping and ending."""

    def __init__(self, core: _Core, driver: Driver, settings: GossipSettings) -> None:
        log = get_logger()
        self._core = core
        self._driver = driver
        self._settings = settings
        self._stop = StopSignal(NAME)
        self._left = asyncio.Event()
        self._publishing = Publishing(driver.publish_keys, core.counters, write=record_to_bytes)
        ids = CommandIds(f"g{core.node.config.epoch:x}")
        self._worker = OwnWorker(
            settings.name, core.plane, Voice(self._publishing, driver), dead_after_s=settings.dead_after_s, ids=ids, log=log
        )
        reach = SidecarReach(self._worker, OtherSidecars(core.node, settings.peer_tls), core.plane, ids=ids)
        self._reach = reach
        self._operations = Operations(core.plane.shell, reach, metrics=core.metrics.commands, log=log)
        self._roster = Roster(core.node, settings.cluster)
        self._keys = Keys(core.ring, settings.key_file, log)

    @property
    def services(self) -> tuple[ServiceBinding, ...]:
        operator = Operator(self._driver, self._roster, self._keys, self._left)
        timeout_s = self._settings.command_timeout_s
        gossip = GossipServicer(self._core.plane, self._worker, operator, command_timeout_s=timeout_s, stop=self._stop)
        scheduler = SchedulerServicer(Desk(self._core.plane.shell, stop=self._stop), kind=scheduler_pb2.PLANE_GOSSIP)
        operating = SidecarOperatorServicer(self._operations, command_timeout_s=timeout_s)
        return (
            ServiceBinding(SCHEDULER, lambda server: scheduler_pb2_grpc.add_SchedulerServicer_to_server(scheduler, server)),
            ServiceBinding(GOSSIP, lambda server: gossip_pb2_grpc.add_GossipServicer_to_server(gossip, server)),
            ServiceBinding(COORDINATOR, lambda server: coordinator_pb2_grpc.add_CoordinatorServicer_to_server(operating, server)),
        )

    def begin(self, grpc_port: int) -> None:
        """Join, and tell the others where this sidecar serves."""
        host = self._core.node.config.address[0]
        wanted = self._settings.grpc_advertise
        self._publishing.introduce(join(*(split(wanted, grpc_port) if wanted else (host, grpc_port))))
        self._driver.join(self._settings.seed_addresses)

    def running(self, port: int, grpc_port: int, metrics_port: int) -> RunningSidecar:
        core = self._core
        address = core.node.config.address
        return RunningSidecar(
            self._settings.name, port, grpc_port, metrics_port, address, self._driver, core.plane, self._worker, self._left, core.catalogue
        )

    async def keep_time(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._worker.advance(TICK_S)
            self._core.plane.advance()

    async def run_errands(self) -> None:
        await self._core.errands.run(self._reach)

    async def keep_gauges(self) -> None:
        while True:
            self._core.metrics.measure(self._seen())
            await asyncio.sleep(GAUGES_EVERY_S)

    def _seen(self) -> Seen:
        node, plane = self._core.node, self._core.plane
        decider, peers, now = plane.shell.decider, self._roster.peers(), plane.shell.now
        plane.local.refresh_lives(now)
        alive = [node.load_of(peer.name, now) for peer in peers if peer.status is Status.ALIVE and peer.name != node.identity.name]
        return Seen(
            members=Counter(peer.status for peer in peers),
            workers=decider.view.counts(),
            ages_s=[load[1] for load in alive if load is not None],
            health_score=node.swim.health.score,
            bytes_per_s=node.pace.rate_bytes_per_s,
            interval_s=node.pace.interval_s,
            reservations=decider.placer.reservations,
            view_version=decider.view.version,
            is_worker_here=self._worker.is_here,
            counts=sum((Counter(each.all) for each in (node.counters, self._driver.counters, self._core.counters)), Counter()),
        )

    async def wind_down(self, server: RpcServer) -> None:
        """Not serving, streams told, goodbye said: in this order."""
        await server.set_serving(False)
        self._core.plane.stop()
        self._stop.set()
        await server.stop(STOP_GRACE_S)
        await self._driver.leave()
