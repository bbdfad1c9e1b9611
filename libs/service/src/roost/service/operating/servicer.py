"""The part of `roost.v1.Coordinator` that operators call, as both planes serve it."""

from __future__ import annotations

from grpc import aio

from roost.service.operating.codec import grace_from_wire, outcomes_to_wire, wish_from_wire
from roost.service.operating.operations import Operations
from roost.v1 import coordinator_pb2, coordinator_pb2_grpc

UnpinContext = aio.ServicerContext[coordinator_pb2.UnpinModelRequest, coordinator_pb2.UnpinModelResponse]
LoadContext = aio.ServicerContext[coordinator_pb2.LoadModelRequest, coordinator_pb2.LoadModelResponse]
UnloadContext = aio.ServicerContext[coordinator_pb2.UnloadModelRequest, coordinator_pb2.UnloadModelResponse]
DrainContext = aio.ServicerContext[coordinator_pb2.DrainWorkerRequest, coordinator_pb2.DrainWorkerResponse]


class OperatorServicer(coordinator_pb2_grpc.CoordinatorServicer):
    """`command_timeout_s` holds for calls whose caller sets no deadline. What workers call, a plane adds."""

    def __init__(self, operations: Operations, *, command_timeout_s: float) -> None:
        self._operations = operations
        self._command_timeout_s = command_timeout_s

    async def LoadModel(self, request: coordinator_pb2.LoadModelRequest, context: LoadContext) -> coordinator_pb2.LoadModelResponse:
        outcomes = await self._operations.load(wish_from_wire(request), self._timeout_s(context.time_remaining()))
        return coordinator_pb2.LoadModelResponse(outcomes=outcomes_to_wire(outcomes))

    async def UnloadModel(self, request: coordinator_pb2.UnloadModelRequest, context: UnloadContext) -> coordinator_pb2.UnloadModelResponse:
        timeout_s = self._timeout_s(context.time_remaining())
        outcomes = await self._operations.unload(request.model, request.worker_id, timeout_s, when_free=request.when_free)
        return coordinator_pb2.UnloadModelResponse(outcomes=outcomes_to_wire(outcomes))

    async def UnpinModel(self, request: coordinator_pb2.UnpinModelRequest, context: UnpinContext) -> coordinator_pb2.UnpinModelResponse:
        outcomes = await self._operations.unpin(request.model, request.worker_id, self._timeout_s(context.time_remaining()))
        return coordinator_pb2.UnpinModelResponse(outcomes=outcomes_to_wire(outcomes))

    async def DrainWorker(self, request: coordinator_pb2.DrainWorkerRequest, context: DrainContext) -> coordinator_pb2.DrainWorkerResponse:
        timeout_s = self._timeout_s(context.time_remaining())
        grace_s = grace_from_wire(request)
        unfinished = await self._operations.drain(request.worker_id, timeout_s, is_resume=request.resume, grace_s=grace_s)
        return coordinator_pb2.DrainWorkerResponse(unfinished=unfinished)

    def _timeout_s(self, remaining_s: float | None) -> float:
        """A second beyond the caller's deadline, where there is one: it is gRPC that ends the call then, with DEADLINE_EXCEEDED."""
        return self._command_timeout_s if remaining_s is None else remaining_s + 1.0
