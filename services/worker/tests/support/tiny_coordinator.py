"""The other end of a worker's stream: a coordinator that keeps what it is sent and sends what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from roost.cluster.errors import WorkerSuperseded
from roost.service.errors import to_rpc_status, to_trailers
from roost.v1 import coordinator_pb2, coordinator_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc, state_pb2

DEADLINE_S = 10.0


@dataclass
class Stream:
    """One worker's stream, as seen from here."""

    reports: list[state_pb2.WorkerLoadReport] = field(default_factory=list)
    results: list[coordinator_pb2.CommandResult] = field(default_factory=list)
    commands: asyncio.Queue[coordinator_pb2.Command | None] = field(default_factory=asyncio.Queue)
    is_over: bool = False

    def outcomes(self) -> list[str]:
        return [outcome.decision_id for report in self.reports for outcome in report.outcomes]


class TinyCoordinator(coordinator_pb2_grpc.CoordinatorServicer):
    """`living_epoch`: a life of the worker that it holds to be alive; streams of earlier ones are refused.

    `takes_changes`: what it says of reports that tell what has changed only; it keeps all as they come.
    """

    def __init__(self) -> None:
        self.living_epoch = 0
        self.takes_changes = False
        self.streams: list[Stream] = []
        self._changed = asyncio.Event()

    async def Connect(
        self,
        request_iterator: AsyncIterator[coordinator_pb2.ConnectRequest],
        context: grpc.aio.ServicerContext[coordinator_pb2.ConnectRequest, coordinator_pb2.ConnectResponse],
    ) -> AsyncIterator[coordinator_pb2.ConnectResponse]:
        stream = Stream()
        self.streams.append(stream)
        reading = asyncio.ensure_future(self._read(stream, request_iterator))
        try:
            await self.until(lambda: bool(stream.reports))
            epoch = stream.reports[0].epoch
            if epoch < self.living_epoch:
                refusal = to_rpc_status(WorkerSuperseded("worker-1", epoch, self.living_epoch))
                await context.abort(grpc.StatusCode.ABORTED, refusal.message, to_trailers(refusal))
            yield coordinator_pb2.ConnectResponse(
                welcome=coordinator_pb2.Welcome(coordinator_epoch=1, dead_after_s=10, takes_changes=self.takes_changes)
            )
            while (command := await stream.commands.get()) is not None:
                yield coordinator_pb2.ConnectResponse(command=command)
        finally:
            reading.cancel()
            stream.is_over = True
            self._changed.set()

    async def _read(self, stream: Stream, messages: AsyncIterator[coordinator_pb2.ConnectRequest]) -> None:
        async for message in messages:
            if message.WhichOneof("message") == "report":
                stream.reports.append(message.report)
            else:
                stream.results.append(message.result)
            self._changed.set()
        stream.commands.put_nowait(None)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def until_reported(self, holds: Callable[[state_pb2.WorkerLoadReport], bool]) -> state_pb2.WorkerLoadReport:
        """The last report, once it holds."""
        await self.until(lambda: bool(self.streams) and bool(self.streams[-1].reports) and holds(self.streams[-1].reports[-1]))
        return self.streams[-1].reports[-1]

    async def command(self, **action: object) -> coordinator_pb2.CommandResult:
        """Sends a command on the last stream and returns its result."""
        stream = self.streams[-1]
        command_id = f"command-{len(stream.results) + 1}"
        stream.commands.put_nowait(coordinator_pb2.Command(command_id=command_id, **action))  # type: ignore[arg-type]
        await self.until(lambda: any(result.command_id == command_id for result in stream.results))
        return stream.results[-1]

    async def ReportLoad(
        self, request: coordinator_pb2.ReportLoadRequest, context: grpc.ServicerContext
    ) -> coordinator_pb2.ReportLoadResponse:
        raise NotImplementedError

    async def LoadModel(
        self, request: coordinator_pb2.LoadModelRequest, context: grpc.ServicerContext
    ) -> coordinator_pb2.LoadModelResponse:
        raise NotImplementedError

    async def UnloadModel(
        self, request: coordinator_pb2.UnloadModelRequest, context: grpc.ServicerContext
    ) -> coordinator_pb2.UnloadModelResponse:
        raise NotImplementedError

    async def UnpinModel(
        self, request: coordinator_pb2.UnpinModelRequest, context: grpc.ServicerContext
    ) -> coordinator_pb2.UnpinModelResponse:
        raise NotImplementedError

    async def DrainWorker(
        self, request: coordinator_pb2.DrainWorkerRequest, context: grpc.ServicerContext
    ) -> coordinator_pb2.DrainWorkerResponse:
        raise NotImplementedError


class TinyScheduler(scheduler_pb2_grpc.SchedulerServicer):
    """Sends everybody to worker-1, except those who ask for "nothing"."""

    async def Schedule(self, request: scheduler_pb2.ScheduleRequest, context: grpc.ServicerContext) -> scheduler_pb2.ScheduleResponse:
        if request.model_required == "nothing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no catalogue knows it")
        return scheduler_pb2.ScheduleResponse(
            worker_id="worker-1",
            action=scheduler_pb2.ACTION_COLD_START,
            estimated_wait_time=0.25,
            reason="worker-1 will load it",
            request_id=request.request_id,
            plane=scheduler_pb2.PLANE_CENTRAL,
        )

    def ScheduleStream(
        self, request_iterator: AsyncIterator[scheduler_pb2.ScheduleStreamRequest], context: grpc.ServicerContext
    ) -> AsyncIterator[scheduler_pb2.ScheduleStreamResponse]:
        raise NotImplementedError

    async def GetClusterState(
        self, request: scheduler_pb2.GetClusterStateRequest, context: grpc.ServicerContext
    ) -> scheduler_pb2.GetClusterStateResponse:
        raise NotImplementedError

    def WatchClusterState(
        self, request: scheduler_pb2.WatchClusterStateRequest, context: grpc.ServicerContext
    ) -> AsyncIterator[scheduler_pb2.WatchClusterStateResponse]:
        raise NotImplementedError

    async def ExplainDecision(
        self, request: scheduler_pb2.ExplainDecisionRequest, context: grpc.ServicerContext
    ) -> scheduler_pb2.ExplainDecisionResponse:
        raise NotImplementedError


@asynccontextmanager
async def listening(port: int = 0) -> AsyncIterator[tuple[TinyCoordinator, int]]:
    """A coordinator on loopback, and its port. Leaving breaks every stream at once, as a killed process would."""
    coordinator = TinyCoordinator()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    coordinator_pb2_grpc.add_CoordinatorServicer_to_server(coordinator, server)
    scheduler_pb2_grpc.add_SchedulerServicer_to_server(TinyScheduler(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield coordinator, port
    finally:
        await server.stop(None)
