from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import grpc
import pytest
from certificates import NEEDS_OPENSSL, make_certificates
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry

from roost.service.channels import open_channel
from roost.service.metrics import GrpcMetrics
from roost.service.server import RpcServer, rpc_server
from roost.service.startup import CannotStart
from roost.service.tls import TlsFiles, explained

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


def serve(tls: TlsFiles | None) -> AbstractAsyncContextManager[RpcServer]:
    return rpc_server(host="127.0.0.1", port=0, services=[], metrics=GrpcMetrics(CollectorRegistry()), tls=tls)


def copy(source: Path, target: Path, *names: str) -> None:
    for name in names:
        (target / f"{name}.new").write_bytes((source / name).read_bytes())
        (target / f"{name}.new").replace(target / name)


async def test_a_certificate_that_was_replaced_counts_from_the_next_connection_on(certificates: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    make_certificates(new)
    copy(certificates, old, "server.pem", "server.key")
    async with serve(TlsFiles(old / "server.pem", old / "server.key")) as server:
        assert await check(server.port, TlsFiles(authority=certificates / "authority.pem"))
        copy(new, old, "server.pem")  # half of the pair is there: the old one goes on
        assert await check(server.port, TlsFiles(authority=certificates / "authority.pem"))
        copy(new, old, "server.key")
        assert await check(server.port, TlsFiles(authority=new / "authority.pem"))
        with pytest.raises(grpc.aio.AioRpcError):
            await check(server.port, TlsFiles(authority=certificates / "authority.pem"))
        (old / "server.pem").unlink()
        assert await check(server.port, TlsFiles(authority=new / "authority.pem"))


async def test_each_way_in_which_a_handshake_fails_is_told_in_words(certificates: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    trusting, strange = TlsFiles(authority=certificates / "authority.pem"), TlsFiles(authority=tmp_path / "authority.pem")
    own = TlsFiles(certificates / "server.pem", certificates / "server.key")
    asking = TlsFiles(own.certificate, own.key, certificates / "authority.pem")
    for server_files, client_files, words in (
        (None, trusting, "it speaks plain text there"),
        (own, None, "it may speak TLS, which is off here"),
        (own, strange, "not from the authority that is trusted here"),
        (asking, trusting, "it may want a certificate from here"),
        (asking, TlsFiles(tmp_path / "client.pem", tmp_path / "client.key", trusting.authority), "or one of another authority"),
    ):
        async with serve(server_files) as server:
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await check(server.port, client_files)
            assert words in explained(failed.value.details() or "", has_tls=client_files is not None)


def test_what_has_nothing_to_do_with_tls_stays_as_it_is() -> None:
    assert explained("Connection refused", has_tls=True) == "Connection refused"


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
