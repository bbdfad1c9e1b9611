"""`roost.v1.Coordinator`: workers' streams, simple reports, and an operator's wishes."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from grpc import aio

from roost.coordinator.codec import downward_to_wire, outcomes_to_wire, upward_from_wire, wish_from_wire
from roost.coordinator.connections import Connections, Downward, Upward
from roost.coordinator.operations import Operations
from roost.coordinator.plane import CentralPlane
from roost.service.codec import state_from_wire
from roost.service.streams import open_writer, refusing_garbage
from roost.v1 import coordinator_pb2, coordinator_pb2_grpc

ConnectContext = aio.ServicerContext[coordinator_pb2.ConnectRequest, coordinator_pb2.ConnectResponse]
ReportContext = aio.ServicerContext[coordinator_pb2.ReportLoadRequest, coordinator_pb2.ReportLoadResponse]
LoadContext = aio.ServicerContext[coordinator_pb2.LoadModelRequest, coordinator_pb2.LoadModelResponse]
UnloadContext = aio.ServicerContext[coordinator_pb2.UnloadModelRequest, coordinator_pb2.UnloadModelResponse]
DrainContext = aio.ServicerContext[coordinator_pb2.DrainWorkerRequest, coordinator_pb2.DrainWorkerResponse]


class CoordinatorServicer(coordinator_pb2_grpc.CoordinatorServicer):
    """`command_timeout_s` holds for operator calls whose caller sets no deadline."""

    def __init__(self, plane: CentralPlane, connections: Connections, operations: Operations, *, command_timeout_s: float) -> None:
        self._plane = plane
        self._connections = connections
        self._operations = operations
        self._command_timeout_s = command_timeout_s

    async def Connect(  # type: ignore[override]  # a coroutine, not a generator: see `streams`
        self, request_iterator: AsyncIterable[coordinator_pb2.ConnectRequest], context: ConnectContext
    ) -> None:
        send = await open_writer(context)

        async def write(message: Downward) -> None:
            await send(downward_to_wire(message))

        await self._connections.serve(self._upward(request_iterator), write)

    async def ReportLoad(self, request: coordinator_pb2.ReportLoadRequest, context: ReportContext) -> coordinator_pb2.ReportLoadResponse:
        with self._plane.counting_bad_reports():
            state = state_from_wire(request.report)
        return coordinator_pb2.ReportLoadResponse(accepted=self._plane.report(state, is_streamed=False).is_accepted)

    async def LoadModel(self, request: coordinator_pb2.LoadModelRequest, context: LoadContext) -> coordinator_pb2.LoadModelResponse:
        outcomes = await self._operations.load(wish_from_wire(request), self._timeout_s(context.time_remaining()))
        return coordinator_pb2.LoadModelResponse(outcomes=outcomes_to_wire(outcomes))

    async def UnloadModel(self, request: coordinator_pb2.UnloadModelRequest, context: UnloadContext) -> coordinator_pb2.UnloadModelResponse:
        outcomes = await self._operations.unload(request.model, request.worker_id, self._timeout_s(context.time_remaining()))
        return coordinator_pb2.UnloadModelResponse(outcomes=outcomes_to_wire(outcomes))

    async def DrainWorker(self, request: coordinator_pb2.DrainWorkerRequest, context: DrainContext) -> coordinator_pb2.DrainWorkerResponse:
        timeout_s = self._timeout_s(context.time_remaining())
        unfinished = await self._operations.drain(request.worker_id, timeout_s, is_resume=request.resume)
        return coordinator_pb2.DrainWorkerResponse(unfinished=unfinished)

    def _timeout_s(self, remaining_s: float | None) -> float:
        """A second beyond the caller's deadline, where there is one: it is gRPC that ends the call then, with DEADLINE_EXCEEDED."""
        return self._command_timeout_s if remaining_s is None else remaining_s + 1.0

    async def _upward(self, requests: AsyncIterable[coordinator_pb2.ConnectRequest]) -> AsyncIterator[Upward]:
        with refusing_garbage():
            async for request in requests:
                with self._plane.counting_bad_reports():
                    message = upward_from_wire(request)
                yield message
