"""The container's health check against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from roost.service.healthcheck import check_health, main

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server() -> Iterator[tuple[str, HealthServicer]]:
    """A server's address and its health, which the test sets."""
    health = HealthServicer()
    rpc_server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(health, rpc_server)
    port = rpc_server.add_insecure_port("127.0.0.1:0")
    rpc_server.start()
    yield f"127.0.0.1:{port}", health
    rpc_server.stop(None).wait()


def test_a_serving_server_is_healthy(server: tuple[str, HealthServicer], capsys: pytest.CaptureFixture[str]) -> None:
    target, health = server
    health.set("", SERVING)
    assert main([target]) == 0
    assert capsys.readouterr().out == f"{target} SERVING\n"


def test_a_server_that_says_it_is_not_serving_is_not_healthy(
    server: tuple[str, HealthServicer], capsys: pytest.CaptureFixture[str]
) -> None:
    target, health = server
    health.set("", NOT_SERVING)
    assert main([target]) == 1
    assert "NOT_SERVING" in capsys.readouterr().out


def test_one_service_of_a_server_can_be_asked_for(server: tuple[str, HealthServicer]) -> None:
    target, health = server
    health.set("", NOT_SERVING)
    health.set("roost.v1.Worker", SERVING)
    assert main([target, "--service", "roost.v1.Worker"]) == 0
    assert check_health(target, service="roost.v1.Nothing").status == "NOT_FOUND"


def test_nobody_there_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["127.0.0.1:1"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().out


def test_the_proxy_of_the_environment_is_not_asked(server: tuple[str, HealthServicer], monkeypatch: pytest.MonkeyPatch) -> None:
    target, health = server
    health.set("", SERVING)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert check_health(target).is_serving


def test_a_missing_address_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as refused:
        main([])
    assert refused.value.code == 2
