"""roost.v1.Worker on the wire: each method translates, calls the runtime, translates back."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import grpc

from roost.cluster.names import check_model_name
from roost.service.codec import catalogue_model_to_wire, model_to_wire, state_to_wire
from roost.service.operating.codec import grace_from_wire
from roost.v1 import worker_pb2, worker_pb2_grpc
from roost.worker.codec import CACHE_RESULTS, generation_request_from_wire
from roost.worker.delivery import Deliveries
from roost.worker.held import HeldRequests
from roost.worker.report import Reporter
from roost.worker.runtime import Runtime


class WorkerServicer(worker_pb2_grpc.WorkerServicer):
    """Holds no state of its own but how much its requests take."""

    def __init__(self, runtime: Runtime, reporter: Reporter, deliveries: Deliveries, *, request_memory_bytes: int) -> None:
        self._runtime = runtime
        self._reporter = reporter
        self._deliveries = deliveries
        self._held = HeldRequests(request_memory_bytes)

    async def Generate(  # type: ignore[override]  # a method that writes its answers, which the stubs do not know
        self,
        request: worker_pb2.GenerateRequest,
        context: grpc.aio.ServicerContext[worker_pb2.GenerateRequest, worker_pb2.GenerateResponse],
    ) -> None:
        with ExitStack() as held:
            with self._runtime.refusals(request.model, request.decision_id):
                held.enter_context(self._held.holding(request.ByteSize()))
                asked = generation_request_from_wire(request)
            await self._deliveries.deliver(asked, context.write)

    async def LoadModel(
        self, request: worker_pb2.WorkerLoadModelRequest, context: grpc.ServicerContext
    ) -> worker_pb2.WorkerLoadModelResponse:
        name = check_model_name(request.model)
        try:
            result = await self._runtime.load(name, is_pinned=request.pin)
        except asyncio.CancelledError:  # the caller has gone
            self._runtime.call_off(name)
            raise
        return worker_pb2.WorkerLoadModelResponse(cache_result=CACHE_RESULTS[result.cache_result], elapsed_s=result.elapsed_s)

    async def UnloadModel(
        self, request: worker_pb2.WorkerUnloadModelRequest, context: grpc.ServicerContext
    ) -> worker_pb2.WorkerUnloadModelResponse:
        was_resident = await self._runtime.unload(check_model_name(request.model), when_free=request.when_free)
        return worker_pb2.WorkerUnloadModelResponse(was_resident=was_resident)

    async def ListModels(self, request: worker_pb2.ListModelsRequest, context: grpc.ServicerContext) -> worker_pb2.ListModelsResponse:
        resident = self._reporter.state().models
        return worker_pb2.ListModelsResponse(
            catalogue=map(catalogue_model_to_wire, self._runtime.core.catalogue_models()),
            resident=[model_to_wire(resident[name]) for name in sorted(resident)],
        )

    async def GetState(self, request: worker_pb2.GetStateRequest, context: grpc.ServicerContext) -> worker_pb2.GetStateResponse:
        return worker_pb2.GetStateResponse(report=state_to_wire(self._reporter.state()))

    async def Drain(self, request: worker_pb2.DrainRequest, context: grpc.ServicerContext) -> worker_pb2.DrainResponse:
        return worker_pb2.DrainResponse(unfinished=self._runtime.drain(resume=request.resume, grace_s=grace_from_wire(request)))
