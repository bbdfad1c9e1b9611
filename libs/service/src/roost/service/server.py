"""A gRPC server as every Roost service has it: limits, health, reflection, errors, metrics, TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

from roost.service.addresses import check_free, join
from roost.service.channels import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S, MAX_MESSAGE_BYTES, keepalive_options
from roost.service.interceptors import ErrorInterceptor, MetricsInterceptor
from roost.service.logs import get_logger
from roost.service.metrics import GrpcMetrics
from roost.service.reception import ReceptionGate, ReceptionInterceptor
from roost.service.startup import PortTaken
from roost.service.tls import TlsFiles, server_credentials

MAX_PENDING_REQUESTS: Final = 100_000  # without it grpc.aio ended half of 5,000 report streams that were opened at once
MIN_PING_INTERVAL_S: Final = 10.0  # clients ping every 20 s; one that pings twice as often still does no harm
STOP_GRACE_S: Final = 0.5  # calls that are left when the service has drained get this long

SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.so_reuseport", 0),  # on, a second server silently takes half of the connections: a taken port must be an error
    ("grpc.server.max_pending_requests", MAX_PENDING_REQUESTS),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_REQUESTS),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", round(MIN_PING_INTERVAL_S * 1000)),
    *keepalive_options(KEEPALIVE_S, KEEPALIVE_TIMEOUT_S),  # a client that vanished is noticed, and its streams end, within 25 s
)

REFLECTION_V1: Final = "grpc.reflection.v1.ServerReflection"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class ServiceBinding:
    """One service of a server: its full name, how its servicer is added, and its methods whose single requests may be megabytes long."""

    name: str
    add: Callable[[grpc.aio.Server], None]
    bulky: tuple[str, ...] = ()


class RpcServer:
    """A server that listens. Made by `rpc_server`."""

    def __init__(self, server: grpc.aio.Server, health: health_aio.HealthServicer, port: int, names: Sequence[str]) -> None:
        self._server = server
        self._health = health
        self._names = tuple(names)
        self.port = port

    async def set_serving(self, is_serving: bool, *names: str) -> None:  # noqa: FBT001 - reads as a sentence
        """What health says of these services; of all, and of the server as a whole, where none is named."""
        status = _SERVING if is_serving else _NOT_SERVING
        for name in names or ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Takes no new calls, gives running ones `grace_s`, then cancels them. Idempotent."""
        await self._server.stop(grace_s)

    def __repr__(self) -> str:
        return f"<RpcServer :{self.port} {' '.join(self._names)}>"


@asynccontextmanager
async def rpc_server(
    *, host: str, port: int, services: Sequence[ServiceBinding], metrics: GrpcMetrics, tls: TlsFiles | None = None
) -> AsyncIterator[RpcServer]:
    """A server that listens, and says it serves, for as long as the block lasts. Port 0 takes a free one (`.port`).

    Raises PortTaken if the address cannot be listened on, CannotStart if a TLS file cannot be read.
    """
    bulky = [f"/{service.name}/{method}" for service in services for method in service.bulky]
    around = (MetricsInterceptor(metrics), ErrorInterceptor(get_logger()))
    first = (ReceptionInterceptor(ReceptionGate(), bulky),) if bulky else ()  # the others ask what is inside them only once a method
    server = grpc.aio.server(interceptors=(*first, *around), options=SERVER_OPTIONS)
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for service in services:
        service.add(server)
    names = [service.name for service in services]
    _add_reflection(server, names)
    listening = RpcServer(server, health, _listen(server, host, port, tls), names)
    await listening.set_serving(True)
    await server.start()
    try:
        yield listening
    finally:
        await listening.stop()


def _add_reflection(server: grpc.aio.Server, names: Sequence[str]) -> None:
    """v1alpha, and the same answers under v1's name, which newer tools ask first: the messages are the same on the wire."""
    listed = [*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(listed, server)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(listed).ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(REFLECTION_V1, {"ServerReflectionInfo": handler}),))


def _listen(server: grpc.aio.Server, host: str, port: int, tls: TlsFiles | None) -> int:
    check_free(host, port)
    try:
        if tls is None:
            return server.add_insecure_port(join(host, port))
        return server.add_secure_port(join(host, port), server_credentials(tls))
    except RuntimeError as error:  # taken since it was checked
        raise PortTaken(join(host, port), "another process listens there; stop it, or choose another port with --port") from error
