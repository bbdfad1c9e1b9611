from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from certificates import NEEDS_OPENSSL, make_certificates
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry

from roost.service.channels import open_channel
from roost.service.metrics import GrpcMetrics
from roost.service.server import rpc_server
from roost.service.startup import CannotStart
from roost.service.tls import TlsFiles

pytestmark = NEEDS_OPENSSL


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


async def check(port: int, tls: TlsFiles | None) -> Message:
    async with open_channel(f"127.0.0.1:{port}", tls=tls) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse] = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return await call(health_pb2.HealthCheckRequest(), timeout=5)


async def test_a_client_that_trusts_the_authority_is_answered(certificates: Path) -> None:
    server_files = TlsFiles(certificates / "server.pem", certificates / "server.key")
    async with rpc_server(host="127.0.0.1", port=0, services=[], metrics=GrpcMetrics(CollectorRegistry()), tls=server_files) as server:
        assert await check(server.port, TlsFiles(authority=certificates / "authority.pem"))
        for stranger in (None, TlsFiles()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(server.port, stranger)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_with_an_authority_asks_clients_for_a_certificate(certificates: Path) -> None:
    authority = certificates / "authority.pem"
    server_files = TlsFiles(certificates / "server.pem", certificates / "server.key", authority)
    async with rpc_server(host="127.0.0.1", port=0, services=[], metrics=GrpcMetrics(CollectorRegistry()), tls=server_files) as server:
        assert await check(server.port, TlsFiles(certificates / "client.pem", certificates / "client.key", authority))
        with pytest.raises(grpc.aio.AioRpcError):
            await check(server.port, TlsFiles(authority=authority))


@pytest.mark.parametrize(
    "files", [TlsFiles(certificate=Path("/no/such.pem"), key=Path("/no/such.key")), TlsFiles(certificate=Path(__file__))]
)
async def test_missing_files_are_named_before_a_port_opens(files: TlsFiles) -> None:
    with pytest.raises(CannotStart, match=r"such\.key|tls_key"):
        async with rpc_server(host="127.0.0.1", port=0, services=[], metrics=GrpcMetrics(CollectorRegistry()), tls=files):
            pass


async def test_a_key_of_another_certificate_is_an_error_that_names_both(certificates: Path) -> None:
    with pytest.raises(CannotStart, match=r"server\.pem.*client\.key"):
        async with rpc_server(
            host="127.0.0.1",
            port=0,
            services=[],
            metrics=GrpcMetrics(CollectorRegistry()),
            tls=TlsFiles(certificates / "server.pem", certificates / "client.key"),
        ):
            pass


async def test_files_that_are_no_certificates_are_an_error_that_names_them(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("not a certificate")
    with pytest.raises(CannotStart, match="nonsense"):
        async with rpc_server(
            host="127.0.0.1", port=0, services=[], metrics=GrpcMetrics(CollectorRegistry()), tls=TlsFiles(nonsense, nonsense)
        ):
            pass
