"""What anyone may send to the port: JSON by reflection, garbage, and what Prometheus asks for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import urllib.request

import grpc
import pytest
from coordinator_peers import running_cluster
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def call_json(port: int, service: str, method: str, request: str) -> dict[str, object]:
    """One unary call, knowing nothing but the address: what grpcurl does."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert service in database.get_services()
        described = descriptor_pool.DescriptorPool(database).FindServiceByName(service).FindMethodByName(method)
        ask, answer = (message_factory.GetMessageClass(one) for one in (described.input_type, described.output_type))
        call = channel.unary_unary(
            f"/{service}/{method}", request_serializer=ask.SerializeToString, response_deserializer=answer.FromString
        )
        got = call(json_format.Parse(request, ask()), timeout=10)
        answered: dict[str, object] = json_format.MessageToDict(got, preserving_proto_field_name=True)
        return answered


async def test_a_json_request_by_reflection_works() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        request = '{"request_id": "r1", "model_required": "sim-a", "priority": 3}'
        answer = await asyncio.to_thread(call_json, cluster.running.port, "roost.v1.Scheduler", "Schedule", request)
        assert (answer["worker_id"], answer["action"], answer["request_id"]) == ("worker-1", "ACTION_SERVE", "r1")
        report = (
            '{"report": {"node_id": "simple-1", "loaded_models": ["sim-b"], "queue_depth": 2, "gpu_utilization": 0.25, "timestamp": 1.5}}'
        )
        assert await asyncio.to_thread(call_json, cluster.running.port, "roost.v1.Coordinator", "ReportLoad", report) == {"accepted": True}


@pytest.mark.parametrize(
    "garbage", [b"\x00" * 4096, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 64, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 99]
)
async def test_garbage_on_the_port_hurts_nobody(garbage: bytes) -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.running.port)
        with contextlib.suppress(OSError):  # the server may hang up at any byte
            writer.write(garbage)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert (await cluster.schedule()).worker_id == "worker-1"


async def test_health_is_serving() -> None:
    async with running_cluster() as cluster:
        for service in ("", "roost.v1.Scheduler", "roost.v1.Coordinator"):
            check = cluster.channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_what_happened_is_on_the_metrics_page() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        await cluster.schedule()
        page = await asyncio.to_thread(read, f"http://127.0.0.1:{cluster.running.metrics_port}/metrics")
    assert 'roost_decisions_total{action="serve",policy="expected-wait"} 1.0' in page
    assert 'roost_reports_total{result="accepted"} 1.0' in page
    assert 'roost_build_info{service="coordinator"' in page


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as page:  # noqa: S310 - the test's own server
        text: str = page.read().decode()
        return text


async def test_a_stopped_coordinator_leaves_no_thread_and_no_task_behind() -> None:
    before = threading.active_count()
    async with running_cluster() as cluster, cluster.worker("worker-1"):
        await cluster.schedule()
    assert [task for task in asyncio.all_tasks() if "roost" in repr(task) and task is not asyncio.current_task()] == []
    assert threading.active_count() <= before + 1  # grpc's own poller stays


@pytest.mark.parametrize("method", ["roost.v1.Coordinator/Connect", "roost.v1.Scheduler/ScheduleStream"])
async def test_a_stream_whose_bytes_are_no_message_is_refused_alone(method: str) -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        call: aio.StreamStreamCall[bytes, bytes] = cluster.channel.stream_stream(f"/{method}")(timeout=10)
        await call.write(b"\xff\xff\xff\xff")
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await cluster.schedule()).worker_id == "worker-1"
