from __future__ import annotations

import asyncio
import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from roost.service.metrics import ServiceMetrics, serve_metrics
from roost.service.startup import PortTaken


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read(), "utf-8")


def test_the_exposition_holds_what_every_service_has(registry: CollectorRegistry) -> None:
    ServiceMetrics("service", registry)
    names = {line.split()[2] for line in generate_latest(registry).decode().splitlines() if line.startswith("# TYPE")}
    assert {name for name in names if name.startswith("roost_")} == {
        "roost_build_info",
        "roost_event_loop_lag_seconds",
        "roost_grpc_handled_total",
        "roost_grpc_handling_seconds",
        "roost_log_write_errors_total",
    }
    assert {"process_resident_memory_bytes", "python_info", "python_gc_collections_total"} <= names


def test_two_services_in_one_process_do_not_share_a_registry() -> None:
    for name in ("coordinator", "worker"):
        registry = CollectorRegistry()
        ServiceMetrics(name, registry)
        assert registry.get_sample_value("roost_build_info", {"service": name, "version": "0.1.0"}) == 1


async def test_metrics_are_served_while_the_event_loop_is_busy(registry: CollectorRegistry) -> None:
    Counter("roost_test_total", "For the test.", registry=registry).inc(3)
    with serve_metrics(registry, "127.0.0.1", 0) as exposition:
        text = fetch(exposition.port)  # blocks the loop: the answer must come from another thread
    assert "roost_test_total 3.0" in text
    with pytest.raises(OSError, match="refused"):
        fetch(exposition.port)


def test_a_taken_metrics_port_is_an_error_that_names_the_flag(registry: CollectorRegistry) -> None:
    with (
        serve_metrics(registry, "127.0.0.1", 0) as first,
        pytest.raises(PortTaken) as caught,
        serve_metrics(registry, "127.0.0.1", first.port),
    ):
        pass
    assert f"127.0.0.1:{first.port}" in str(caught.value)
    assert "--metrics-port" in str(caught.value)


def test_an_idle_connection_does_not_keep_others_waiting(registry: CollectorRegistry) -> None:
    with serve_metrics(registry, "127.0.0.1", 0) as exposition, socket.create_connection(("127.0.0.1", exposition.port)):
        fetch(exposition.port)


async def test_the_lag_of_the_event_loop_is_sampled(registry: CollectorRegistry) -> None:
    metrics = ServiceMetrics("service", registry)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await metrics.measure_event_loop_lag(0.01)
    assert (registry.get_sample_value("roost_event_loop_lag_seconds_count") or 0) > 3
