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
Streaming = grpc.aio.UnaryStreamMultiCallable[bytes, bytes]


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


class PausingPath:
    """Carries bytes between one client and a server; while `open` is not set, nothing of the client's passes."""

    def __init__(self, port: int) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self._port = port

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._one_way(reader, back_writer), self._one_way(back_reader, writer, is_pausable=False))

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_pausable: bool = True) -> None:
        while piece := await reader.read(1 << 16):
            if is_pausable:
                await self.open.wait()
            writer.write(piece)
        writer.close()


async def test_a_stream_outlives_a_pause_that_is_longer_than_the_answer_to_a_ping_may_take() -> None:
    is_over = asyncio.Event()

    async def two_words(request: bytes, context: Context) -> None:
        path.open.clear()  # what the client says from its first data on comes late
        await context.write(b"one")
        await is_over.wait()
        await context.write(b"two")

    server = grpc.aio.server(options=SERVER_OPTIONS)
    handler: Handler = grpc.unary_stream_rpc_method_handler(two_words)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Slow", {"Call": handler}),))
    path = PausingPath(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    async with await asyncio.start_server(path.carry, "127.0.0.1", 0) as between:
        port = between.sockets[0].getsockname()[1]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=keepalive_options(60.0, 0.5)) as channel:
            await asyncio.wait_for(channel.channel_ready(), 5)
            method: Streaming = channel.unary_stream("/test.Slow/Call")
            call = method(b"", timeout=20)
            heard = [await call.read()]
            asyncio.get_running_loop().call_later(2.0, path.open.set)
            await path.open.wait()
            is_over.set()
            heard.append(await call.read())
    await server.stop(0)
    assert heard == [b"one", b"two"]


def test_both_ends_watch_each_other_alike() -> None:
    watching = keepalive_options(KEEPALIVE_S, KEEPALIVE_TIMEOUT_S)
    assert set(watching) <= set(SERVER_OPTIONS)
    assert ("grpc.http2.ping_timeout_ms", 5_000) in watching
