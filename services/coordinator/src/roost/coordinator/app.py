"""Builds the coordinator: every object once, handed to those that need it. Reading `coordinator` is reading the service."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from roost.cluster.view import ClusterView
from roost.coordinator.connections import Connections, Welcome
from roost.coordinator.metrics import CoordinatorMetrics
from roost.coordinator.plane import NAME, CentralPlane, LivesTap, ends_streams
from roost.coordinator.servicers.coordinator import CoordinatorServicer
from roost.coordinator.settings import CoordinatorSettings
from roost.coordinator.worker_streams import WorkerStreams
from roost.placement.decider import Decider
from roost.placement.plans.registry import plans_named
from roost.placement.records import DecisionRecords
from roost.placement.terms import Terms
from roost.service.logs import get_logger
from roost.service.metrics import ServiceMetrics, serve_metrics
from roost.service.operating.errands import Errands
from roost.service.operating.operations import Operations
from roost.service.scheduler.cataloguing import DeciderCatalogue
from roost.service.scheduler.desk import Desk
from roost.service.scheduler.recorder import RecordingTap, recording
from roost.service.scheduler.servicer import SchedulerServicer
from roost.service.scheduler.shell import DeciderShell
from roost.service.scheduler.taps import Tap
from roost.service.server import ServiceBinding, rpc_server
from roost.service.streams import StopSignal
from roost.v1 import coordinator_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc

STOP_GRACE_S: Final = 2.0  # for calls that are being answered; streams are told at once
GAUGES_EVERY_S: Final = 1.0  # one pass over all workers; scrapes come every few seconds
LONGEST_TICK_S: Final = 0.25  # so that a death is seen within a fortieth of the default bound


@dataclass(frozen=True, slots=True)
class RunningCoordinator:
    """The ports it was given. `reload` reads its catalogue again."""

    port: int
    metrics_port: int
    reload: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def coordinator(settings: CoordinatorSettings) -> AsyncIterator[RunningCoordinator]:
    """A coordinator that serves while the block runs, and then stops: not serving, streams told, calls finished, ports closed.

    Raises CannotStart: the catalogue cannot be read, the recording not be written, or a port is taken.
    """
    registry = CollectorRegistry()
    service_metrics = ServiceMetrics("coordinator", registry)
    stop = StopSignal(NAME)
    metrics = CoordinatorMetrics(registry, settings.policy)
    with _recording(settings, metrics) as recorded:
        parts = _build(settings, metrics, stop, recorded)
        plane, services = parts.plane, parts.services
        listening = rpc_server(host=settings.host, port=settings.port, services=services, metrics=service_metrics.grpc, tls=settings.tls)
        async with asyncio.TaskGroup() as tasks, listening as server:
            with serve_metrics(registry, settings.metrics_host, settings.metrics_port) as exposition:
                clocks = (
                    _keep_time(plane, settings.dead_after_s),
                    _keep_gauges(plane),
                    parts.errands.run(parts.streams),
                    service_metrics.measure_event_loop_lag(),
                )
                running = [tasks.create_task(clock) for clock in clocks]
                try:
                    yield RunningCoordinator(server.port, exposition.port, parts.catalogue)
                finally:
                    await server.set_serving(False)
                    plane.stop()
                    stop.set()
                    await server.stop(STOP_GRACE_S)
                    for task in running:
                        task.cancel()


def _recording(settings: CoordinatorSettings, metrics: CoordinatorMetrics) -> contextlib.AbstractContextManager[RecordingTap | None]:
    wall_offset_s = time.time() - time.monotonic()
    return recording(
        settings.record, settings.record_bytes, plane="central", wall_offset_s=wall_offset_s, changed=metrics.recorded, log=get_logger()
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    plane: CentralPlane
    streams: WorkerStreams
    errands: Errands
    services: Sequence[ServiceBinding]
    catalogue: DeciderCatalogue


def _build(settings: CoordinatorSettings, metrics: CoordinatorMetrics, stop: StopSignal, recorded: RecordingTap | None) -> _Parts:
    epoch = time.time_ns()
    log = get_logger()
    catalogue = DeciderCatalogue(settings.models, "ROOST_COORDINATOR_MODELS", log=log)
    view = ClusterView(
        dead_after_s=settings.dead_after_s,
        max_workers=settings.max_workers,
        catalogue=catalogue.models,
    )
    rng = random.Random()  # noqa: S311  # spreads load; guards nothing
    terms = Terms(f"c{epoch:x}", settings.policy, can_tell=True, aging_s=settings.aging_s, plans=plans_named(settings.plans))
    decider = Decider(view, terms, rng=rng, records=DecisionRecords(settings.remember) if settings.remember else None)
    streams = WorkerStreams(terms.decider)
    errands = Errands(timeout_s=settings.command_timeout_s, log=log)
    taps: list[Tap] = [metrics, LivesTap(log, ends_streams(streams))]
    if recorded is not None:
        recorded.begin(decider)
        taps.append(recorded)
    shell = DeciderShell(decider, clock=time.monotonic, taps=taps, load=errands.begin)
    catalogue.hear = shell.hear
    plane = CentralPlane(shell, streams, metrics=metrics, log=log)
    connections = Connections(plane, streams, welcome=Welcome(epoch, settings.dead_after_s), stop=stop)
    operations = Operations(shell, streams, metrics=metrics.commands, log=log)
    scheduler = SchedulerServicer(Desk(shell, stop=stop), kind=scheduler_pb2.PLANE_CENTRAL)
    operator = CoordinatorServicer(plane, connections, operations, command_timeout_s=settings.command_timeout_s)
    services = (
        ServiceBinding("roost.v1.Scheduler", lambda server: scheduler_pb2_grpc.add_SchedulerServicer_to_server(scheduler, server)),
        ServiceBinding("roost.v1.Coordinator", lambda server: coordinator_pb2_grpc.add_CoordinatorServicer_to_server(operator, server)),
    )
    return _Parts(plane, streams, errands, services, catalogue)


async def _keep_time(plane: CentralPlane, dead_after_s: float) -> None:
    tick_s = min(LONGEST_TICK_S, dead_after_s / 10)
    while True:
        await asyncio.sleep(tick_s)
        plane.advance(expected_interval_s=tick_s)


async def _keep_gauges(plane: CentralPlane) -> None:
    while True:
        plane.measure()
        await asyncio.sleep(GAUGES_EVERY_S)
