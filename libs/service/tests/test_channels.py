from __future__ import annotations

import asyncio
from typing import TypeAlias

import grpc
import pytest
from prometheus_client import CollectorRegistry

from roost.service.channels import KEEPALIVE_S, KEEPALIVE_TIMEOUT_S, RETRIES, keepalive_options, open_channel
from roost.service.metrics import GrpcMetrics
from roost.service.server import SERVER_OPTIONS, rpc_server

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"
Raw = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


class Failing:
    """Ends every call with one status, as something between client and server would: without our details."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code
        self.calls = 0

    async def call(self, request: bytes, context: Context) -> bytes:
        self.calls += 1
        await context.abort(self.code, "as asked")


async def calls_made(code: grpc.StatusCode, *, has_retries: bool = True) -> int:
    failing = Failing(code)
    server = grpc.aio.server()
    handler: Handler = grpc.unary_unary_rpc_method_handler(failing.call)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Failing", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}", has_retries=has_retries) as channel:
        call: Raw = channel.unary_unary("/test.Failing/Call")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=20)
    await server.stop(0)
    assert caught.value.code() is code
    return failing.calls


async def test_unavailable_is_tried_again_four_times() -> None:
    assert await calls_made(grpc.StatusCode.UNAVAILABLE) == 1 + RETRIES


async def test_a_channel_without_retries_says_at_once_that_the_server_is_unavailable() -> None:
    assert await calls_made(grpc.StatusCode.UNAVAILABLE, has_retries=False) == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED])
async def test_nothing_else_is_tried_again(code: grpc.StatusCode) -> None:
    assert await calls_made(code) == 1


async def test_a_server_that_comes_back_is_used_again_soon() -> None:
    metrics = GrpcMetrics(CollectorRegistry())
    async with rpc_server(host="127.0.0.1", port=0, services=[], metrics=metrics) as server:
        port = server.port
        channel = open_channel(f"127.0.0.1:{port}")
        await asyncio.wait_for(channel.channel_ready(), 5)
    async with rpc_server(host="127.0.0.1", port=port, services=[], metrics=metrics):
        await asyncio.wait_for(channel.channel_ready(), 5)
    await channel.close()


# --- peers that vanish without a word -------------------------------------------------------------

EMPTY_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # the HTTP/2 frame that either side begins with
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
QUICK = keepalive_options(1.0, 0.5)
NOTICED_S = 10.0  # the ping's own timeout, if it decided, would be 60 s


async def test_a_server_that_falls_silent_is_noticed_by_its_clients() -> None:
    gone = asyncio.Event()

    async def greet_and_fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EMPTY_SETTINGS)
        while await reader.read(1024):
            pass
        writer.close()
        gone.set()

    async with await asyncio.start_server(greet_and_fall_silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=QUICK) as channel:
            await asyncio.wait_for(channel.channel_ready(), 5)
            call: Raw = channel.unary_unary("/test.Silent/Call")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"", timeout=NOTICED_S)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(gone.wait(), 5)


async def test_a_client_that_falls_silent_is_noticed_by_its_server() -> None:
    server = grpc.aio.server(options=QUICK)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(PREFACE + EMPTY_SETTINGS)
        async with asyncio.timeout(NOTICED_S):
            while await reader.read(1024):
                pass
    finally:
        writer.close()
        await server.stop(0)


def test_both_ends_watch_each_other_alike() -> None:
    watching = keepalive_options(KEEPALIVE_S, KEEPALIVE_TIMEOUT_S)
    assert set(watching) <= set(SERVER_OPTIONS)
    assert ("grpc.http2.ping_timeout_ms", 5_000) in watching
