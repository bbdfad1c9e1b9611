"""`roost.v1.Coordinator` as a sidecar serves it: what operators ask, for the whole cluster. Workers are sent to their own sidecars."""

from __future__ import annotations

from collections.abc import AsyncIterable

from grpc import aio

from roost.cluster.errors import NotServedHere
from roost.service.operating.servicer import OperatorServicer
from roost.v1 import coordinator_pb2

_FIX = "a worker reports to its own sidecar: start it with --sidecar HOST:PORT, and --coordinator-host '' where there is no coordinator"


class SidecarOperatorServicer(OperatorServicer):
    """Load, unload and drain on any worker of the cluster."""

    async def Connect(  # type: ignore[override]  # a coroutine, not a generator: it only refuses
        self,
        request_iterator: AsyncIterable[coordinator_pb2.ConnectRequest],
        context: aio.ServicerContext[coordinator_pb2.ConnectRequest, coordinator_pb2.ConnectResponse],
    ) -> None:
        raise NotServedHere("a sidecar takes no worker's stream by Coordinator.Connect", _FIX)

    async def ReportLoad(
        self,
        request: coordinator_pb2.ReportLoadRequest,
        context: aio.ServicerContext[coordinator_pb2.ReportLoadRequest, coordinator_pb2.ReportLoadResponse],
    ) -> coordinator_pb2.ReportLoadResponse:
        raise NotServedHere("a sidecar takes no reports by Coordinator.ReportLoad", _FIX)
