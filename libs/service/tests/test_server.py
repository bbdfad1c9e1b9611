from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from roost.cluster.errors import InvalidField, NoWorkers, UnknownModel, UnknownRequest
from roost.service.channels import open_channel
from roost.service.errors import from_rpc_error
from roost.service.metrics import GrpcMetrics
from roost.service.server import RpcServer, rpc_server
from roost.service.startup import PortTaken
from roost.v1 import scheduler_pb2
from roost.v1.scheduler_pb2_grpc import SchedulerServicer, SchedulerStub

if TYPE_CHECKING:
    from roost.v1.scheduler_pb2_grpc import SchedulerAsyncStub  # exists for type checkers only

Serve = Callable[[SchedulerServicer], AbstractAsyncContextManager[tuple["SchedulerAsyncStub", RpcServer]]]
Raw = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
RawStream = grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
Context = grpc.aio.ServicerContext[object, object]


class Answering(SchedulerServicer):
    """Raises what the model's name says, in every kind of handler."""

    def __init__(self) -> None:
        self.calls = 0
        self.closed = asyncio.Event()

    async def ExplainDecision(
        self, request: scheduler_pb2.ExplainDecisionRequest, context: Context
    ) -> scheduler_pb2.ExplainDecisionResponse:
        raise UnknownRequest(request.request_id, 0)

    async def Schedule(self, request: scheduler_pb2.ScheduleRequest, context: Context) -> scheduler_pb2.ScheduleResponse:
        self.calls += 1
        match request.model_required:
            case "":
                raise InvalidField("model_required", "is empty")
            case "unknown":
                raise UnknownModel("unknown", ("known",))
            case "bug":
                raise KeyError("a secret")
            case "group":
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._refuse())
            case "slow":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.closed.set()
        return scheduler_pb2.ScheduleResponse(worker_id="worker-1")

    async def GetClusterState(
        self, request: scheduler_pb2.GetClusterStateRequest, context: Context
    ) -> scheduler_pb2.GetClusterStateResponse:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        return scheduler_pb2.GetClusterStateResponse()

    async def _refuse(self) -> None:
        raise NoWorkers("none is known")

    async def ScheduleStream(
        self, request_iterator: AsyncIterator[scheduler_pb2.ScheduleStreamRequest], context: Context
    ) -> AsyncIterator[scheduler_pb2.ScheduleStreamResponse]:
        async for request in request_iterator:
            response = await self.Schedule(request.request, context)
            yield scheduler_pb2.ScheduleStreamResponse(request_id=request.request.request_id, response=response)

    async def WatchClusterState(
        self, request: scheduler_pb2.WatchClusterStateRequest, context: Context
    ) -> AsyncIterator[scheduler_pb2.WatchClusterStateResponse]:
        try:
            yield scheduler_pb2.WatchClusterStateResponse()
            await asyncio.Event().wait()
        finally:
            self.closed.set()


def request(model: str) -> scheduler_pb2.ScheduleRequest:
    return scheduler_pb2.ScheduleRequest(model_required=model)


def handled(registry: CollectorRegistry, method: str, code: str) -> float | None:
    return registry.get_sample_value("roost_grpc_handled_total", {"service": "roost.v1.Scheduler", "method": method, "code": code})


async def test_a_refusal_ends_the_call_with_its_status_and_details(serve: Serve, registry: CollectorRegistry) -> None:
    async with serve(Answering()) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Schedule(request(""), timeout=5)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "model_required: is empty")
    refusal = from_rpc_error(caught.value)
    assert isinstance(refusal, InvalidField)
    assert refusal.field == "model_required"
    assert handled(registry, "Schedule", "INVALID_ARGUMENT") == 1


async def test_a_refusal_in_a_stream_handler_ends_the_stream_with_its_status(serve: Serve, registry: CollectorRegistry) -> None:
    async def requests() -> AsyncIterator[scheduler_pb2.ScheduleStreamRequest]:
        for model in ("known", "unknown"):
            yield scheduler_pb2.ScheduleStreamRequest(request=request(model))

    async with serve(Answering()) as (stub, _):
        answers: list[scheduler_pb2.ScheduleStreamResponse] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            answers.extend([answer async for answer in stub.ScheduleStream(requests(), timeout=5)])
    assert isinstance(from_rpc_error(caught.value), UnknownModel)
    assert handled(registry, "ScheduleStream", "NOT_FOUND") == 1


async def test_a_refusal_inside_a_task_group_is_that_refusal(serve: Serve) -> None:
    async with serve(Answering()) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Schedule(request("group"), timeout=5)
    assert isinstance(from_rpc_error(caught.value), NoWorkers)


async def test_what_the_server_refuses_is_not_asked_again_by_grpc_itself(serve: Serve) -> None:
    servicer = Answering()
    async with serve(servicer) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Schedule(request("group"), timeout=5)
    assert servicer.calls == 1


async def test_a_bug_is_logged_and_the_caller_hears_only_its_id(
    serve: Serve, registry: CollectorRegistry, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serve(Answering()) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Schedule(request("bug"), timeout=5)
        assert (await stub.Schedule(request("known"), timeout=5)).worker_id == "worker-1"
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)
    status = await rpc_status_of(caught.value)
    assert status.reason == "INTERNAL"
    printed = "".join(capfd.readouterr())
    assert printed.count("KeyError: 'a secret'") == 1
    assert status.metadata["error_id"] in printed
    assert handled(registry, "Schedule", "INTERNAL") == 1
    assert handled(registry, "Schedule", "OK") == 1


async def rpc_status_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    status = await rpc_status.aio.from_call(Received(error))
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


class Received:
    """The call that an error came from, in the shape grpc_status reads: what other clients do with our trailers."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._error = error

    async def code(self) -> grpc.StatusCode:
        return self._error.code()

    async def details(self) -> str | None:
        return self._error.details()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return self._error.trailing_metadata()


async def test_a_cancelled_call_ends_its_handler_and_is_no_error(serve: Serve, registry: CollectorRegistry) -> None:
    servicer = Answering()
    async with serve(servicer) as (stub, _):
        call = stub.WatchClusterState(scheduler_pb2.WatchClusterStateRequest())
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            await servicer.closed.wait()
    assert handled(registry, "WatchClusterState", "CANCELLED") == 1


async def test_a_call_whose_time_is_up_ends_its_handler(serve: Serve, registry: CollectorRegistry) -> None:
    servicer = Answering()
    async with serve(servicer) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Schedule(request("slow"), timeout=0.1)
        async with asyncio.timeout(5):
            await servicer.closed.wait()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert handled(registry, "Schedule", "DEADLINE_EXCEEDED") == 1


async def test_a_call_whose_time_was_up_before_it_began_ends_so(serve: Serve) -> None:
    async with serve(Answering()) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Schedule(request("known"), timeout=-1)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_message_over_16_mib_is_refused_and_the_server_lives_on(serve: Serve) -> None:
    async with serve(Answering()) as (stub, server):
        unlimited = (("grpc.max_send_message_length", -1),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=unlimited) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await SchedulerStub(channel).Schedule(request("x" * (20 << 20)), timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await stub.Schedule(request("known"), timeout=5)).worker_id == "worker-1"


async def test_garbage_on_the_port_hurts_nobody(serve: Serve) -> None:
    async with serve(Answering()) as (stub, server):
        for garbage in (
            b"\x00" * 4096,
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(range(256)) * 64,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 999,
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(garbage)
            await writer.drain()
            writer.close()
        assert (await stub.Schedule(request("known"), timeout=5)).worker_id == "worker-1"


@pytest.mark.parametrize("method", ["Schedule", "WatchClusterState"])
async def test_bytes_that_are_no_message_are_refused_as_their_senders_mistake(
    method: str, serve: Serve, registry: CollectorRegistry, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serve(Answering()) as (stub, server):
        async with open_channel(f"127.0.0.1:{server.port}") as channel:
            call: RawStream = channel.unary_stream(f"/roost.v1.Scheduler/{method}")  # takes a single answer as well
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"\xff\xff\xff", timeout=5).read()
        refusal = from_rpc_error(caught.value)
        assert isinstance(refusal, InvalidField)
        assert (caught.value.code(), refusal.field) == (grpc.StatusCode.INVALID_ARGUMENT, "message")
        assert (await stub.Schedule(request("known"), timeout=5)).worker_id == "worker-1"
    assert handled(registry, method, "INVALID_ARGUMENT") == 1
    assert "Traceback" not in "".join(capfd.readouterr())


async def test_an_unknown_method_is_unimplemented_and_makes_no_new_label(serve: Serve, registry: CollectorRegistry) -> None:
    async with serve(Answering()) as (_, server), open_channel(f"127.0.0.1:{server.port}") as channel:
        call: Raw = channel.unary_unary("/roost.v1.Scheduler/NoSuchMethod")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert handled(registry, "NoSuchMethod", "UNIMPLEMENTED") is None


async def test_a_taken_port_is_an_error_that_names_the_address_and_the_fix(serve: Serve) -> None:
    async with serve(Answering()) as (_, server):
        with pytest.raises(PortTaken) as caught:
            async with rpc_server(host="127.0.0.1", port=server.port, services=[], metrics=GrpcMetrics(CollectorRegistry())):
                pass
    assert f"cannot listen on 127.0.0.1:{server.port}: " in str(caught.value)
    assert "--port" in str(caught.value)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
async def test_a_host_that_is_not_ours_is_an_error_that_names_it(host: str) -> None:
    with pytest.raises(PortTaken, match=f"cannot listen on {host}:9000"):
        async with rpc_server(host=host, port=9000, services=[], metrics=GrpcMetrics(CollectorRegistry())):
            pass


async def test_half_of_a_name_that_is_taken_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with pytest.raises(PortTaken):
            async with rpc_server(host="localhost", port=port, services=[], metrics=GrpcMetrics(CollectorRegistry())):
                pass


async def test_health_follows_what_the_service_says(serve: Serve) -> None:
    async with serve(Answering()) as (_, server), open_channel(f"127.0.0.1:{server.port}") as channel:
        check: grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse] = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )

        async def statuses() -> list[str]:
            names = ("", "roost.v1.Scheduler")
            answers = [await check(health_pb2.HealthCheckRequest(service=name), timeout=5) for name in names]
            return [health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) for answer in answers]

        assert await statuses() == ["SERVING", "SERVING"]
        await server.set_serving(False, "roost.v1.Scheduler")
        assert await statuses() == ["SERVING", "NOT_SERVING"]
        await server.set_serving(False)
        assert await statuses() == ["NOT_SERVING", "NOT_SERVING"]
        await server.set_serving(True)
        assert await statuses() == ["SERVING", "SERVING"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
async def test_reflection_lists_the_services(serve: Serve, version: str) -> None:
    async with serve(Answering()) as (_, server), open_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5)
        answers = [answer async for answer in call]
    assert [service.name for service in answers[0].list_services_response.service] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "roost.v1.Scheduler",
    ]


async def test_five_hundred_streams_opened_at_once_are_all_answered(serve: Serve) -> None:
    async with serve(Answering()) as (stub, _):
        calls = [stub.WatchClusterState(scheduler_pb2.WatchClusterStateRequest(), timeout=60) for _ in range(500)]
        await asyncio.gather(*(call.read() for call in calls))
        for call in calls:
            call.cancel()


async def test_a_code_that_a_handler_sets_is_the_code_that_is_counted(serve: Serve, registry: CollectorRegistry) -> None:
    async with serve(Answering()) as (stub, _):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetClusterState(scheduler_pb2.GetClusterStateRequest(), timeout=5)
    assert handled(registry, "GetClusterState", "DATA_LOSS") == 1


async def test_a_stopping_server_ends_the_calls_that_are_left(serve: Serve) -> None:
    servicer = Answering()
    async with serve(servicer) as (stub, server):
        call = stub.WatchClusterState(scheduler_pb2.WatchClusterStateRequest())
        await call.read()
        await server.stop(0)
        async with asyncio.timeout(5):
            await servicer.closed.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Flooding(Answering):
    """Answers as fast as it can, so that a write is under way when the peer goes."""

    async def WatchClusterState(
        self, request: scheduler_pb2.WatchClusterStateRequest, context: Context
    ) -> AsyncIterator[scheduler_pb2.WatchClusterStateResponse]:
        try:
            while True:
                yield scheduler_pb2.WatchClusterStateResponse()
        finally:
            self.closed.set()


async def test_a_peer_that_goes_while_it_is_answered_is_no_error(
    serve: Serve, registry: CollectorRegistry, capfd: pytest.CaptureFixture[str]
) -> None:
    servicers = [Flooding() for _ in range(5)]
    for servicer in servicers:
        async with serve(servicer) as (_, server):
            channel = open_channel(f"127.0.0.1:{server.port}")
            call = SchedulerStub(channel).WatchClusterState(scheduler_pb2.WatchClusterStateRequest())
            for _ in range(20):
                await call.read()
            await channel.close()
            async with asyncio.timeout(5):
                await servicer.closed.wait()
    assert handled(registry, "WatchClusterState", "CANCELLED") == len(servicers)
    assert "Traceback" not in "".join(capfd.readouterr())
