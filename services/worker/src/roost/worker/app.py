"""Builds every object of the worker once and runs them together: reading this is reading the service."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.service.catalogue_file import CatalogueFile
from roost.service.logs import get_logger
from roost.service.metrics import ServiceMetrics, serve_metrics
from roost.service.server import RpcServer, ServiceBinding, rpc_server
from roost.v1 import coordinator_pb2, gossip_pb2, worker_pb2, worker_pb2_grpc
from roost.worker.checks import Checks
from roost.worker.core.pace import SMALLEST_GAP_S, Backoff, ReportPace
from roost.worker.core.worker_core import Capacity, WorkerCore
from roost.worker.delivery import Deliveries
from roost.worker.driver import Driver
from roost.worker.engines import border
from roost.worker.engines.interface import Engine
from roost.worker.engines.registry import build_engines
from roost.worker.gpu import GpuMeter, find_devices
from roost.worker.lines import CoordinatorLine, SidecarLine
from roost.worker.memory_plan import MemoryPlan
from roost.worker.metrics import WorkerMetrics
from roost.worker.model_host import ModelHost
from roost.worker.model_store import ModelStore
from roost.worker.obedience import Obedience
from roost.worker.reloading import CatalogueReload
from roost.worker.report import Clocks, Reporter
from roost.worker.report_link import LinkTiming, Peer, ReportLink, Source
from roost.worker.runtime import Runtime
from roost.worker.servicer import WorkerServicer
from roost.worker.settings import WorkerSettings
from roost.worker.tasks import task_scope

SERVICE = worker_pb2.DESCRIPTOR.services_by_name["Worker"].full_name
MODELS_VARIABLE = "ROOST_WORKER_MODELS"
HANDOVER_S = 2.0  # for streams to end that other workers go on with
GOODBYE_S = 3.0  # for the last reports and the peers' ends of the streams

Link = (
    ReportLink[coordinator_pb2.ConnectRequest, coordinator_pb2.ConnectResponse]
    | ReportLink[gossip_pb2.PublishRequest, gossip_pb2.PublishResponse]
)
Links = tuple[Link, ...]
log = get_logger()


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A worker that listens."""

    node_id: str
    port: int
    metrics_port: int
    address: str
    runtime: Runtime
    reporter: Reporter
    links: Links
    reload: CatalogueReload


@asynccontextmanager
async def worker(settings: WorkerSettings, engines: Mapping[str, Engine] | None = None) -> AsyncIterator[RunningWorker]:
    """A worker that serves and reports for as long as the block lasts; leaving it drains first, leaving it by an exception does not.

    `engines` by name, in place of those that ship. Raises CannotStart (PortTaken for a taken port) before anything listens.
    """
    service_metrics = ServiceMetrics("worker", CollectorRegistry())
    metrics = WorkerMetrics(service_metrics.registry)
    file = CatalogueFile(settings.models, MODELS_VARIABLE)
    catalogue = file.catalogue
    store = ModelStore(catalogue, settings.models_dir.expanduser())
    catalogue.complete_with(MemoryPlan(store.file_there, settings.memory_budget_bytes))
    engines = engines or build_engines(
        store, threads=settings.threads, time_scale=settings.time_scale, patience_s=settings.engine_silence_s
    )
    runtime = build_runtime(settings, catalogue, engines, metrics)
    gpu = GpuMeter(await asyncio.to_thread(find_devices))
    reporter = Reporter(runtime.core, gpu, epoch=time.time_ns(), clocks=Clocks(monotonic=time.monotonic, wall=time.time))
    links = build_links(settings, runtime, reporter, metrics)
    reload = CatalogueReload(file, runtime, links)
    deliveries = Deliveries(runtime, clock=time.monotonic, reader_timeout_s=settings.reader_timeout_s)
    servicer = WorkerServicer(runtime, reporter, deliveries, request_memory_bytes=settings.request_memory)
    binding = ServiceBinding(SERVICE, lambda server: worker_pb2_grpc.add_WorkerServicer_to_server(servicer, server), bulky=("Generate",))
    listening = rpc_server(host=settings.host, port=settings.port, services=[binding], metrics=service_metrics.grpc, tls=settings.tls)
    with serve_metrics(service_metrics.registry, settings.metrics_host, settings.metrics_port) as metrics_server:
        async with _closing(engines), runtime.host.running(), listening as server, task_scope() as tasks:
            reporter.address = await asyncio.to_thread(settings.address, server.port)
            linking = [(link, tasks.create_task(link.run(), name="link to a decider")) for link in links]
            background = [
                tasks.create_task(gpu.run(), name="gpu"),
                tasks.create_task(deliveries.run(), name="deliveries"),
                tasks.create_task(_show(reporter, runtime, metrics), name="gauges"),
                tasks.create_task(_tell_health(server, runtime), name="health"),
                tasks.create_task(service_metrics.measure_event_loop_lag(), name="event-loop lag"),
            ]
            yield RunningWorker(runtime.core.node_id, server.port, metrics_server.port, reporter.address, runtime, reporter, links, reload)
            await _wind_down(server, runtime, linking, settings.drain_timeout_s)
            for task in background:
                task.cancel()


def build_runtime(settings: WorkerSettings, catalogue: Catalogue, engines: Mapping[str, Engine], metrics: WorkerMetrics) -> Runtime:
    """The work itself, which knows neither wire nor coordinator."""

    def unmeasured_load_s(spec: ModelSpec) -> float:
        engine = engines.get(spec.engine)
        return 0.0 if engine is None else engine.expected_load_s(spec)

    capacity = Capacity(settings.memory_budget_bytes, settings.slots, settings.queue_capacity, settings.aging_s, settings.eviction)
    driver = Driver(WorkerCore(settings.name, catalogue, capacity, unmeasured_load_s=unmeasured_load_s))
    host = ModelHost(driver, engines, metrics, clock=time.monotonic, load_timeout_s=settings.load_timeout_s)
    return Runtime(driver, host, Checks(engines, clock=time.monotonic), metrics, clock=time.monotonic)


def build_links(settings: WorkerSettings, runtime: Runtime, reporter: Reporter, metrics: WorkerMetrics) -> Links:
    """The streams to the coordinator and to the sidecar, to whichever there is, not yet dialled."""

    def timing() -> LinkTiming:
        backoff = Backoff(random.Random())  # noqa: S311 - spreads reconnects, keeps no secret
        return LinkTiming(pace=ReportPace(settings.report_interval_s), backoff=backoff, clock=time.monotonic)

    links: list[Link] = []
    if settings.coordinator:
        peer, source = Peer(settings.coordinator, settings.coordinator_tls), Source(runtime, reporter, runtime.core.outcomes)
        links.append(ReportLink(CoordinatorLine(Obedience(runtime, clock=time.monotonic)), peer, source, metrics, timing=timing()))
    if settings.sidecar:
        outcomes = runtime.core.further_outcomes() if links else runtime.core.outcomes
        peer, source = Peer(settings.sidecar, settings.sidecar_tls), Source(runtime, reporter, outcomes)
        links.append(ReportLink(SidecarLine(Obedience(runtime, clock=time.monotonic)), peer, source, metrics, timing=timing()))
    return tuple(links)


async def _wind_down(
    server: RpcServer, runtime: Runtime, linking: Sequence[tuple[Link, asyncio.Task[None]]], drain_timeout_s: float
) -> None:
    """Not serving, drained, what has not ended handed over, said goodbye: in this order."""
    await server.set_serving(False)
    unfinished = runtime.drain(resume=False, grace_s=drain_timeout_s)  # which the links report at once
    log.info("draining", unfinished=unfinished, timeout_s=drain_timeout_s)
    try:
        async with asyncio.timeout(drain_timeout_s + HANDOVER_S):  # those that cannot go on elsewhere end with the server
            await runtime.wait_idle()
    except TimeoutError:
        log.warning("drain_timed_out", unfinished=runtime.core.slots.unfinished)
    connected = {task for link, task in linking if link.is_connected}
    for link, _ in linking:
        link.close()
    if connected:
        await asyncio.wait(connected, timeout=GOODBYE_S)
    for _, task in linking:
        task.cancel()


async def _tell_health(server: RpcServer, runtime: Runtime) -> None:
    """Health says NOT_SERVING for as long as the worker drains, whoever asked it to."""
    changed = asyncio.Event()
    runtime.subscribe(changed.set)
    told = False
    while True:
        changed.clear()
        if (is_draining := runtime.core.is_draining) != told:
            await server.set_serving(not is_draining)
            told = is_draining
        await changed.wait()


async def _show(reporter: Reporter, runtime: Runtime, metrics: WorkerMetrics) -> None:
    """Keeps the gauges at what a report would say: after every change, at most 20 times a second."""
    changed = asyncio.Event()
    runtime.subscribe(changed.set)
    while True:
        changed.clear()
        metrics.show(reporter.state())
        await asyncio.sleep(SMALLEST_GAP_S)
        try:
            async with asyncio.timeout(1.0):  # the accelerator's load changes without a change of ours
                await changed.wait()
        except TimeoutError:
            continue


@asynccontextmanager
async def _closing(engines: Mapping[str, Engine]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for name, engine in engines.items():
            await border.close(engine, name)
