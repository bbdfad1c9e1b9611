"""Builds the sidecar: every object once, handed to those that need it. Reading `sidecar` is reading the service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from roost.cluster.view import ClusterView
from roost.gossip.codec import BytesCodec
from roost.gossip.copies import Copies
from roost.gossip.driver import Driver, driving
from roost.gossip.keyring import BOOT_BYTES, Keyring
from roost.gossip.keys import Keys, read_key_file
from roost.gossip.local_view import LocalView
from roost.gossip.metrics import GossipMetrics, Seen
from roost.gossip.operator import Operator
from roost.gossip.own_worker import OwnWorker, Voice
from roost.gossip.plane import NAME, GossipPlane
from roost.gossip.protocol.config import Address, Config
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.messages import Status
from roost.gossip.protocol.node import Node
from roost.gossip.publishing import Publishing
from roost.gossip.reach import OtherSidecars, SidecarReach
from roost.gossip.roster import Roster
from roost.gossip.servicers.gossip import GossipServicer
from roost.gossip.servicers.operating import SidecarOperatorServicer
from roost.gossip.settings import GossipSettings
from roost.gossip.sockets import Sockets, advertised, bound, split
from roost.placement.placer import Placer
from roost.placement.recording.recorded import Journal, RecordedPlacer, RecordedView
from roost.placement.records import DecisionRecords
from roost.service.addresses import join
from roost.service.catalogue_file import read_catalogue
from roost.service.logs import get_logger
from roost.service.metrics import ServiceMetrics, serve_metrics
from roost.service.operating.operations import Operations
from roost.service.operating.streams import CommandIds
from roost.service.scheduler.recorder import recording
from roost.service.scheduler.servicer import SchedulerServicer
from roost.service.server import RpcServer, ServiceBinding, rpc_server
from roost.service.streams import StopSignal
from roost.v1 import coordinator_pb2_grpc, gossip_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc

STOP_GRACE_S: Final = 0.5  # for calls that are being answered; streams are told at once
GAUGES_EVERY_S: Final = 1.0  # one pass over all members; scrapes come every few seconds
TICK_S: Final = 0.25
NEVER_S: Final = 1e12  # who is dead, members tell each other; the view's own rule of silence is not asked
RESERVATION_BOUND_S: Final = 3.0  # a load record that counts the request has come by then, or its request never arrived
GOSSIP: Final = "roost.v1.Gossip"
SCHEDULER: Final = "roost.v1.Scheduler"
COORDINATOR: Final = "roost.v1.Coordinator"  # what operators call of it


@dataclass(frozen=True, slots=True)
class RunningSidecar:
    """The ports it was given, and what tests and tools look at. `left` is set when an operator wants it to end."""

    node_id: str
    port: int
    grpc_port: int
    metrics_port: int
    address: Address
    driver: Driver
    plane: GossipPlane
    worker: OwnWorker
    left: asyncio.Event


@contextlib.asynccontextmanager
async def sidecar(settings: GossipSettings) -> AsyncIterator[RunningSidecar]:
    """A sidecar that serves while the block runs, and then stops: not serving, streams told, goodbye said, ports closed.

    Raises CannotStart: a file cannot be read, or a port is taken.
    """
    registry = CollectorRegistry()
    service_metrics = ServiceMetrics("gossip", registry)
    metrics = GossipMetrics(registry, settings.policy)
    with bound(settings.host, settings.port) as sockets, _recording(settings, metrics) as journal:
        core = _core(settings, sockets, metrics, journal)
        async with driving(core.node, sockets, clock=time.monotonic, heard=core.plane.heard) as driver:
            life = _Life(core, driver, settings)
            listening = rpc_server(
                host=settings.host, port=settings.grpc_port, services=life.services, metrics=service_metrics.grpc, tls=settings.tls
            )
            async with asyncio.TaskGroup() as tasks, listening as server:
                with serve_metrics(registry, settings.metrics_host, settings.metrics_port) as exposition:
                    life.begin(server.port)
                    clocks = (life.keep_time(), life.keep_gauges(), life.keep_copying(), service_metrics.measure_event_loop_lag())
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
    copies: Copies
    metrics: GossipMetrics
    counters: Counters


def _recording(settings: GossipSettings, metrics: GossipMetrics) -> contextlib.AbstractContextManager[Journal | None]:
    wall_offset_s = time.time() - time.monotonic()
    return recording(
        settings.record, settings.record_bytes, plane="gossip", wall_offset_s=wall_offset_s, changed=metrics.recorded, log=get_logger()
    )


def _core(settings: GossipSettings, sockets: Sockets, metrics: GossipMetrics, journal: Journal | None) -> _Core:
    """Raises CannotStart."""
    known = read_catalogue(settings.models, "ROOST_GOSSIP_MODELS").catalogue_models()
    ring = None if settings.key_file is None else _ring(read_key_file(settings.key_file), settings.cluster)
    address = advertised(settings.advertise, settings.host, sockets, settings.seed_addresses)
    config = Config(name=settings.name, address=address, epoch=time.time_ns() // 1_000_000, swim=settings.swim)
    rng = random.Random()  # noqa: S311  # spreads load and gossip; guards nothing
    node = Node(config, rng, codec=BytesCodec(settings.cluster, keyring=ring), now=time.monotonic())
    make_view, make_placer = (ClusterView, Placer) if journal is None else (RecordedView, RecordedPlacer)
    view = make_view(dead_after_s=NEVER_S, catalogue=known)
    placer = make_placer(
        view,
        settings.policy,
        rng=rng,
        decider=f"g{config.epoch:x}",
        reservation_bound_s=RESERVATION_BOUND_S,
        is_view_shared=True,
        records=DecisionRecords(settings.remember) if settings.remember else None,
    )
    counters = Counters()
    local = LocalView(view, placer, node, counters, wall_offset_s=time.time() - time.monotonic())
    log = get_logger()
    copies = Copies(timeout_s=settings.command_timeout_s, log=log)
    plane = GossipPlane(local, node, clock=time.monotonic, metrics=metrics, log=log, copy=copies.want, journal=journal)
    return _Core(node, ring, plane, copies, metrics, counters)


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
        self._publishing = Publishing(driver.publish_keys, core.counters)
        ids = CommandIds(f"g{core.node.config.epoch:x}")
        self._worker = OwnWorker(
            settings.name, core.plane, Voice(self._publishing, driver), dead_after_s=settings.dead_after_s, ids=ids, log=log
        )
        self._reach = SidecarReach(self._worker, OtherSidecars(core.node, settings.peer_tls), core.plane, ids=ids)
        self._operations = Operations(core.plane, self._reach, metrics=core.metrics.commands, log=log)
        self._roster = Roster(core.node, settings.cluster)
        self._keys = Keys(core.ring, settings.key_file, log)

    @property
    def services(self) -> tuple[ServiceBinding, ...]:
        operator = Operator(self._driver, self._roster, self._keys, self._left)
        timeout_s = self._settings.command_timeout_s
        gossip = GossipServicer(self._core.plane, self._worker, operator, command_timeout_s=timeout_s, stop=self._stop)
        scheduler = SchedulerServicer(self._core.plane, stop=self._stop, kind=scheduler_pb2.PLANE_GOSSIP)
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
            self._settings.name, port, grpc_port, metrics_port, address, self._driver, core.plane, self._worker, self._left
        )

    async def keep_time(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._worker.advance(TICK_S)
            self._core.plane.advance()

    async def keep_copying(self) -> None:
        await self._core.copies.keep_making(self._reach)

    async def keep_gauges(self) -> None:
        while True:
            self._core.metrics.measure(self._seen())
            await asyncio.sleep(GAUGES_EVERY_S)

    def _seen(self) -> Seen:
        node, plane = self._core.node, self._core.plane
        local, peers, now = plane.local, self._roster.peers(), plane.now
        local.refresh_lives(now)
        alive = [node.load_of(peer.name, now) for peer in peers if peer.status is Status.ALIVE and peer.name != node.identity.name]
        return Seen(
            members=Counter(peer.status for peer in peers),
            workers=local.view.counts(),
            ages_s=[load[1] for load in alive if load is not None],
            health_score=node.swim.health.score,
            bytes_per_s=node.pace.rate_bytes_per_s,
            interval_s=node.pace.interval_s,
            reservations=local.placer.reservations,
            view_version=local.view.version,
            is_worker_here=self._worker.is_here,
            counts=sum((Counter(each.all) for each in (node.counters, self._driver.counters, self._core.counters)), Counter()),
        )

    async def wind_down(self, server: RpcServer) -> None:
        """Not serving, streams told, goodbye said: in this order."""
        await server.set_serving(False)
        self._stop.set()
        self._core.plane.stop()
        await server.stop(STOP_GRACE_S)
        await self._driver.leave()
