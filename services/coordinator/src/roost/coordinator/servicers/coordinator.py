"""`roost.v1.Coordinator`: workers' streams and simple reports, beside what operators ask."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

from grpc import aio

from roost.coordinator.codec import downward_to_wire, upward_from_wire
from roost.coordinator.connections import Connections, Downward
from roost.coordinator.plane import CentralPlane
from roost.service.codec import state_from_wire
from roost.service.operating.operations import Operations
from roost.service.operating.servicer import OperatorServicer
from roost.service.operating.serving import Upward
from roost.service.report_changes import ReportReader
from roost.service.streams import open_writer, refusing_garbage
from roost.v1 import coordinator_pb2

ConnectContext = aio.ServicerContext[coordinator_pb2.ConnectRequest, coordinator_pb2.ConnectResponse]
ReportContext = aio.ServicerContext[coordinator_pb2.ReportLoadRequest, coordinator_pb2.ReportLoadResponse]


class CoordinatorServicer(OperatorServicer):
    """`command_timeout_s` holds for operator calls whose caller sets no deadline."""

    def __init__(self, plane: CentralPlane, connections: Connections, operations: Operations, *, command_timeout_s: float) -> None:
        super().__init__(operations, command_timeout_s=command_timeout_s)
        self._plane = plane
        self._connections = connections

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
        return coordinator_pb2.ReportLoadResponse(accepted=self._plane.report(state, is_streamed=False))

    async def _upward(self, requests: AsyncIterable[coordinator_pb2.ConnectRequest]) -> AsyncIterator[Upward]:
        reports = ReportReader()
        with refusing_garbage():
            async for request in requests:
                with self._plane.counting_bad_reports():
                    message = upward_from_wire(request, reports)
                yield message
