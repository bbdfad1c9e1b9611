from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from roost.service.channels import open_channel
from roost.service.metrics import GrpcMetrics
from roost.service.server import RpcServer, ServiceBinding, rpc_server
from roost.v1.scheduler_pb2_grpc import SchedulerServicer, SchedulerStub, add_SchedulerServicer_to_server

if TYPE_CHECKING:
    from roost.v1.scheduler_pb2_grpc import SchedulerAsyncStub  # exists for type checkers only

Serve = Callable[[SchedulerServicer], AbstractAsyncContextManager[tuple["SchedulerAsyncStub", RpcServer]]]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def serve(registry: CollectorRegistry) -> Serve:
    """A real server on a free port with one Scheduler servicer, and a stub that calls it."""
    metrics = GrpcMetrics(registry)

    @asynccontextmanager
    async def serving(servicer: SchedulerServicer) -> AsyncIterator[tuple[SchedulerAsyncStub, RpcServer]]:
        binding = ServiceBinding("roost.v1.Scheduler", lambda server: add_SchedulerServicer_to_server(servicer, server))
        async with (
            rpc_server(host="127.0.0.1", port=0, services=[binding], metrics=metrics) as server,
            open_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            yield SchedulerStub(channel), server

    return serving
