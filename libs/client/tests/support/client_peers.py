"""Stand-ins for a coordinator and for workers: real grpc.aio servers on port 0 that speak the protocol and do what a test tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Never, Protocol

import grpc

from roost.cluster.errors import NoWorkers, RoostError, UnknownModel
from roost.service.errors import status_of, to_rpc_status, to_trailers
from roost.service.tls import TlsFiles, server_credentials
from roost.v1 import coordinator_pb2, scheduler_pb2, state_pb2, worker_pb2
from roost.v1.coordinator_pb2_grpc import CoordinatorServicer, add_CoordinatorServicer_to_server
from roost.v1.scheduler_pb2_grpc import SchedulerServicer, add_SchedulerServicer_to_server
from roost.v1.worker_pb2_grpc import WorkerServicer, add_WorkerServicer_to_server

Context = grpc.aio.ServicerContext[object, object]
Operation = (
    coordinator_pb2.LoadModelRequest
    | coordinator_pb2.UnloadModelRequest
    | coordinator_pb2.UnpinModelRequest
    | coordinator_pb2.DrainWorkerRequest
)


async def refuse(context: Context, error: RoostError) -> Never:
    status = to_rpc_status(error)
    await context.abort(status_of(error), status.message, to_trailers(status))


async def break_off(context: Context) -> Never:
    """As a connection that breaks: a status without Roost's details."""
    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


class NotPlayed:
    """The calls a stand-in has no part for: they are refused, so that a client that makes one shows it."""

    async def answer_nothing(self, request: object, context: Context) -> Never:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no stand-in plays this")

    async def stream_nothing(self, request_iterator: object, context: Context) -> AsyncIterator[Never]:
        yield await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no stand-in plays this")


@dataclass
class Act:
    """What a worker does with one request."""

    tokens: Sequence[str] = ("Hello", ",", " world")
    refusal: RoostError | None = None
    breaks_at_once: bool = False
    never_answers: bool = False
    breaks_after: int | None = None
    hangs_after: int | None = None
    ends_without_completion: bool = False
    first_index: int = 0
    cannot_go_on: bool = False
    says: tuple[worker_pb2.GenerateResponse, ...] = ()
    seed: int | None = None
    fingerprint: str = ""


@dataclass
class StandInWorker(NotPlayed, WorkerServicer):
    name: str
    acts: list[Act] = field(default_factory=lambda: [Act()])
    requests: list[worker_pb2.GenerateRequest] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""

    async def Generate(self, request: worker_pb2.GenerateRequest, context: Context) -> AsyncIterator[worker_pb2.GenerateResponse]:
        act = self.acts[min(len(self.requests), len(self.acts) - 1)]
        self.requests.append(request)
        self.asked.set()
        if act.breaks_at_once:
            await break_off(context)
        if act.never_answers:
            await self._hang()
        if act.refusal is not None:
            await refuse(context, act.refusal)
        told = 0 if act.cannot_go_on else request.generated.tokens
        yield worker_pb2.GenerateResponse(
            accepted=worker_pb2.GenerationAccepted(
                request_id=request.request_id,
                worker_id=self.name,
                cache_result=state_pb2.CACHE_RESULT_HIT,
                queue_position=2,
                seed=act.seed,
                fingerprint=act.fingerprint,
                resumed_from=told,
            )
        )
        if told:
            started = worker_pb2.GenerationStarted(fingerprint=act.fingerprint, exactness=worker_pb2.EXACTNESS_EXACT)
            yield worker_pb2.GenerateResponse(started=started)
        for step in act.says:
            yield step
        for index, text in list(enumerate(act.tokens))[told:]:
            if index == act.breaks_after:
                await break_off(context)
            if index == act.hangs_after:
                await self._hang()
            yield worker_pb2.GenerateResponse(token=worker_pb2.Token(index=index + act.first_index, id=100 + index, text=text))
        if not act.ends_without_completion:
            yield worker_pb2.GenerateResponse(completion=completion(len(act.tokens), request))

    async def _hang(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    LoadModel = UnloadModel = ListModels = GetState = Drain = NotPlayed.answer_nothing


def completion(tokens: int, request: worker_pb2.GenerateRequest) -> worker_pb2.Completion:
    return worker_pb2.Completion(
        finish_reason=worker_pb2.FINISH_REASON_LENGTH,
        usage=worker_pb2.Usage(prompt_tokens=4, completion_tokens=tokens),
        timings=worker_pb2.Timings(queued_s=0.25, load_s=0.5, prefill_s=0.125, decode_s=1.0),
        cache_result=state_pb2.CACHE_RESULT_HIT,
        resumes=request.generated.resumes + 1 if request.HasField("generated") else 0,
        exactness=worker_pb2.EXACTNESS_EXACT,
    )


@dataclass
class StandInScheduler(NotPlayed, SchedulerServicer, CoordinatorServicer):
    """Sends every request to the first worker that is not excluded."""

    workers: dict[str, str] = field(default_factory=dict)
    refusals: list[RoostError] = field(default_factory=list)
    requests: list[scheduler_pb2.ScheduleRequest] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    hangs: bool = False
    watch_pause: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""
    knows_dry_runs: bool = True

    async def Schedule(self, request: scheduler_pb2.ScheduleRequest, context: Context) -> scheduler_pb2.ScheduleResponse:
        self.requests.append(request)
        if self.hangs:
            await asyncio.Event().wait()
        if self.refusals:
            await refuse(context, self.refusals.pop(0))
        if request.model_required == "lama-7b":
            await refuse(context, UnknownModel("lama-7b", ["llama-7b"]))
        for name, address in self.workers.items():
            if name not in request.excluded_workers:
                return scheduler_pb2.ScheduleResponse(
                    worker_id=name,
                    action=scheduler_pb2.ACTION_SERVE,
                    reason=f"{name} has {request.model_required} ready",
                    worker_address=address,
                    decision_id="" if request.dry_run and self.knows_dry_runs else f"decision-{len(self.requests)}",
                    dry_run=request.dry_run and self.knows_dry_runs,
                    plane=scheduler_pb2.PLANE_CENTRAL,
                    request_id=request.request_id,
                    policy="weighted-score",
                )
        return await refuse(context, NoWorkers("every worker is excluded", 0.05))

    async def GetClusterState(
        self, request: scheduler_pb2.GetClusterStateRequest, context: Context
    ) -> scheduler_pb2.GetClusterStateResponse:
        if self.hangs:
            await asyncio.Event().wait()
        return self.state()

    async def WatchClusterState(
        self, request: scheduler_pb2.WatchClusterStateRequest, context: Context
    ) -> AsyncIterator[scheduler_pb2.WatchClusterStateResponse]:
        yield scheduler_pb2.WatchClusterStateResponse(state=self.state())
        yield scheduler_pb2.WatchClusterStateResponse(state=self.state())
        await self.watch_pause.wait()

    def state(self) -> scheduler_pb2.GetClusterStateResponse:
        return scheduler_pb2.GetClusterStateResponse(
            cache_hit_rate=0.75,
            total_requests=2**40,
            active_workers=1,
            average_gpu_utilization=0.5,
            workers=[
                scheduler_pb2.WorkerView(
                    report=state_pb2.WorkerLoadReport(
                        node_id="worker-1", loaded_models=["llama-7b"], address="127.0.0.1:8001", slots=4, epoch=7, sequence=1
                    ),
                    liveness=scheduler_pb2.LIVENESS_SUSPECT,
                    age_s=1.5,
                )
            ],
            models=[
                scheduler_pb2.ModelView(
                    model=state_pb2.CatalogueModel(name="llama-7b", engine="simulated", size_bytes=13_480_000_000, simulated=True),
                    ready_on=["worker-1"],
                ),
                scheduler_pb2.ModelView(model=state_pb2.CatalogueModel(name="tiny", engine="llamacpp", size_bytes=500_000)),
            ],
            policy="weighted-score",
            plane=scheduler_pb2.PLANE_CENTRAL,
        )

    async def LoadModel(self, request: coordinator_pb2.LoadModelRequest, context: Context) -> coordinator_pb2.LoadModelResponse:
        self.operations.append(request)
        return coordinator_pb2.LoadModelResponse(outcomes=[coordinator_pb2.WorkerOutcome(worker_id="worker-1", elapsed_s=1.5)])

    async def UnloadModel(self, request: coordinator_pb2.UnloadModelRequest, context: Context) -> coordinator_pb2.UnloadModelResponse:
        self.operations.append(request)
        return coordinator_pb2.UnloadModelResponse()

    async def UnpinModel(self, request: coordinator_pb2.UnpinModelRequest, context: Context) -> coordinator_pb2.UnpinModelResponse:
        self.operations.append(request)
        return coordinator_pb2.UnpinModelResponse(outcomes=[coordinator_pb2.WorkerOutcome(worker_id="worker-1", unchanged=True)])

    async def DrainWorker(self, request: coordinator_pb2.DrainWorkerRequest, context: Context) -> coordinator_pb2.DrainWorkerResponse:
        self.operations.append(request)
        return coordinator_pb2.DrainWorkerResponse(unfinished=3)

    ScheduleStream = Connect = NotPlayed.stream_nothing
    ReportLoad = NotPlayed.answer_nothing


@dataclass
class StandInCluster:
    """A scheduler and the workers it knows, each on a port of its own."""

    stack: AsyncExitStack
    scheduler: StandInScheduler = field(default_factory=StandInScheduler)
    servers: dict[str, grpc.aio.Server] = field(default_factory=dict)
    tls: TlsFiles | None = None

    async def serve(self, name: str, add: Callable[[grpc.aio.Server], None], here: str = "127.0.0.1:0") -> str:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add(server)
        port = server.add_insecure_port(here) if self.tls is None else server.add_secure_port(here, server_credentials(self.tls))
        await server.start()
        self.stack.push_async_callback(server.stop, None)
        self.servers[name] = server
        return f"127.0.0.1:{port}"

    async def add_worker(self, name: str, *acts: Act) -> StandInWorker:
        worker = StandInWorker(name, list(acts) or [Act()])
        worker.address = await self.serve(name, lambda server: add_WorkerServicer_to_server(worker, server))
        self.scheduler.workers[name] = worker.address
        return worker

    async def add_scheduler(self, name: str = "scheduler", here: str = "127.0.0.1:0") -> str:
        def add(server: grpc.aio.Server) -> None:
            add_SchedulerServicer_to_server(self.scheduler, server)
            add_CoordinatorServicer_to_server(self.scheduler, server)

        return await self.serve(name, add, here)


NO_ENV: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Outcome:
    """What a run of the command left."""

    code: int
    out: str
    err: str


class Roost(Protocol):
    """Runs the real command in a process of its own, to its end."""

    async def __call__(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] = NO_ENV) -> Outcome: ...
