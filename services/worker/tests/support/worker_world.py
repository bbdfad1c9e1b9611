"""A worker's runtime without a wire, and whole workers on loopback, for tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import grpc
from prometheus_client import CollectorRegistry
from steered_engine import MB, SteeredEngine, catalogue_of

from roost.cluster.catalogue import Catalogue
from roost.v1 import worker_pb2, worker_pb2_grpc
from roost.worker.app import RunningWorker, worker
from roost.worker.checks import Checks
from roost.worker.core.worker_core import Capacity, WorkerCore
from roost.worker.driver import Driver
from roost.worker.generation import Accepted, Completed, GenerationEvent, GenerationRequest, NumberedToken
from roost.worker.metrics import WorkerMetrics
from roost.worker.model_host import ModelHost
from roost.worker.runtime import Runtime
from roost.worker.settings import WorkerSettings

BESIDE = ("progress", "started")
DEADLINE_S = 10.0  # of every wait in a test; reached only where something is broken


@dataclass
class World:
    """One runtime with its engine. `until` waits for a fact about it, driven by its own changes."""

    runtime: Runtime
    engine: SteeredEngine
    registry: CollectorRegistry
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def world(
    catalogue: Catalogue | None = None,
    *,
    budget_mb: int = 100,
    slots: int = 2,
    queue_capacity: int = 64,
    max_parallel: int = 4,
    load_timeout_s: float = 60.0,
) -> AsyncIterator[World]:
    """A runtime over a steered engine. Models a, b, c of 40 MB in 100 MB of memory unless the test says otherwise."""
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    engine = SteeredEngine(max_parallel=max_parallel)
    capacity = Capacity(budget_mb * MB, slots, queue_capacity)
    core = WorkerCore("worker-1", catalogue or catalogue_of(a=40, b=40, c=40), capacity, unmeasured_load_s=engine.expected_load_s)
    driver = Driver(core)
    host = ModelHost(driver, {"simulated": engine}, metrics, clock=time.monotonic, load_timeout_s=load_timeout_s)
    runtime = Runtime(driver, host, Checks({"simulated": engine}, clock=time.monotonic), metrics, clock=time.monotonic)
    made = World(runtime, engine, registry)
    runtime.subscribe(made.changed.set)
    async with host.running():
        yield made


@dataclass
class Generation:
    """A generation that a task of its own reads; `events` grow as they come."""

    task: asyncio.Task[None]
    events: list[GenerationEvent]
    grown: asyncio.Event

    @property
    def accepted(self) -> Accepted:
        return next(event for event in self.events if isinstance(event, Accepted))

    @property
    def tokens(self) -> list[NumberedToken]:
        return [event for event in self.events if isinstance(event, NumberedToken)]

    async def until_accepted(self) -> Accepted:
        await self.until(lambda: bool(self.events))
        return self.accepted

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                if self.task.done():
                    self.task.result()
                    raise AssertionError(f"the generation ended after {self.events}")
                self.grown.clear()
                await self.grown.wait()

    async def completed(self) -> Completed:
        async with asyncio.timeout(DEADLINE_S):
            await self.task
        assert isinstance(self.events[-1], Completed)
        return self.events[-1]

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


def generate(runtime: Runtime, model: str = "a", prompt: str = "one two three", **fields: object) -> Generation:
    """Starts a generation; nothing has happened yet when this returns."""
    request = GenerationRequest(model=model, prompt=prompt, **fields)  # type: ignore[arg-type]
    events: list[GenerationEvent] = []
    grown = asyncio.Event()

    async def read() -> None:
        try:
            async with aclosing(runtime.generate(request)) as stream:
                async for event in stream:
                    events.append(event)
                    grown.set()
        finally:
            grown.set()

    return Generation(asyncio.ensure_future(read()), events, grown)


async def answers_of(
    call: grpc.aio.UnaryStreamCall[worker_pb2.GenerateRequest, worker_pb2.GenerateResponse],
) -> list[worker_pb2.GenerateResponse]:
    """What every generation has: accepted, tokens and completion, whatever is told beside them."""
    return [answer async for answer in call if answer.WhichOneof("event") not in BESIDE]


def settings_for(**fields: object) -> WorkerSettings:
    """Any free ports, a name, and a coordinator that is not there."""
    defaults: dict[str, object] = {"node_id": "worker-1", "port": 0, "metrics_port": 0, "coordinator_port": 1, "drain_timeout_s": 5.0}
    return WorkerSettings(**{**defaults, **fields})  # type: ignore[arg-type]


@asynccontextmanager
async def serving(settings: WorkerSettings, engine: SteeredEngine) -> AsyncIterator[tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub]]:
    """A whole worker and a stub that calls it."""
    async with worker(settings, {"simulated": engine}) as running:
        options = [("grpc.max_send_message_length", 64 << 20)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}", options=options) as channel:
            yield running, worker_pb2_grpc.WorkerStub(channel)
