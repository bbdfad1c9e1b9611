"""The openai engine against servers that fail. The stub here says that it is one; the shared suite runs against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from engine_subjects import API_KEY, events_of, openai_spec, text_in

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed, NoCapacity
from roost.worker.engines.interface import Finished, FinishReason, Sampling
from roost.worker.engines.openai import OpenAIEngine

LISTING = json.dumps({"data": [{"id": "tiny"}]})
CHUNK = 'data: {"choices": [{"text": " a"}]}\n\n'


@dataclass
class StubServer:
    """A stub, not a model server: answers each path with what the test laid down, and remembers who asked what."""

    answers: dict[str, tuple[int, str]] = field(default_factory=lambda: {"/v1/models": (200, LISTING)})
    asked: list[str] = field(default_factory=list)
    headers: str = ""
    is_silent_after: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""
    stop_listening: Callable[[], object] = lambda: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        lengths = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length")]
        body = await reader.readexactly(int(lengths[0]) if lengths else 0)
        self.asked.append(f"{path} {body.decode()}" if body else path)
        status, text = self.answers.get(path, (404, ""))
        writer.write(f"HTTP/1.1 {status} stub\r\nServer: stub\r\nConnection: close\r\n{self.headers}\r\n{text}".encode())
        await writer.drain()
        if self.is_silent_after and path == "/v1/completions":
            await reader.read()
            self.left.set()
        writer.close()


@asynccontextmanager
async def stub_server() -> AsyncIterator[StubServer]:
    stub = StubServer()
    server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
    stub.stop_listening = server.close
    stub.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield stub


@pytest.fixture
async def stub() -> AsyncIterator[StubServer]:
    async with stub_server() as stub:
        yield stub


@pytest.fixture
async def engine() -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(environment={"TEST_KEY": API_KEY})
    yield engine
    await engine.close()


def spec_of(stub: StubServer, **options: str | float) -> ModelSpec:
    return openai_spec(stub.address, "tiny", **options)


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, InvalidField), (401, EngineFailed), (404, EngineFailed), (429, NoCapacity), (500, EngineFailed), (503, NoCapacity)],
)
async def test_a_refusal_of_the_server_is_told(stub: StubServer, engine: OpenAIEngine, status: int, error: type[Exception]) -> None:
    model = await engine.load(spec_of(stub))
    stub.answers["/v1/completions"] = (status, '{"error": {"message": "the stub refuses"}}')
    with pytest.raises(error, match="the stub refuses"):
        await events_of(model, "x", Sampling(max_tokens=1))


async def test_the_time_to_retry_is_the_servers(stub: StubServer, engine: OpenAIEngine) -> None:
    model = await engine.load(spec_of(stub))
    stub.answers["/v1/completions"], stub.headers = (429, "busy"), "Retry-After: 7\r\n"
    with pytest.raises(NoCapacity) as refusal:
        await events_of(model, "x", Sampling(max_tokens=1))
    assert refusal.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [(401, '{"error": "bad key"}', "TEST_KEY"), (500, "<html>oops</html>", "oops"), (200, '{"data": [{"id": "other"}]}', "it has other")],
)
async def test_a_server_that_cannot_serve_the_model_is_told_at_load(
    stub: StubServer, engine: OpenAIEngine, status: int, body: str, words: str
) -> None:
    stub.answers["/v1/models"] = (status, body)
    with pytest.raises(ModelLoadFailed, match=words):
        await engine.load(spec_of(stub))


@pytest.mark.parametrize(("status", "body"), [(404, ""), (200, "{}"), (200, "no JSON"), (200, '{"data": [{"id": "tiny:latest"}]}')])
async def test_a_server_that_does_not_list_its_models_is_believed(stub: StubServer, engine: OpenAIEngine, status: int, body: str) -> None:
    stub.answers["/v1/models"] = (status, body)
    assert (await engine.load(spec_of(stub))).max_parallel == 4


async def test_a_stream_without_its_end_mark_is_read(stub: StubServer, engine: OpenAIEngine) -> None:
    model = await engine.load(spec_of(stub))
    stub.answers["/v1/completions"] = (200, CHUNK + 'data: {"choices": [{"text": "", "finish_reason": "stop"}]}\n\n')
    events = await events_of(model, "x", Sampling(max_tokens=5))
    assert text_in(events) == " a"
    assert events[-1] == Finished(FinishReason.STOP)


async def test_a_stream_that_breaks_is_told(stub: StubServer, engine: OpenAIEngine) -> None:
    model = await engine.load(spec_of(stub))
    stub.answers["/v1/completions"], stub.headers = (200, CHUNK), "Content-Length: 9999\r\n"
    with pytest.raises(EngineFailed, match="broke"):
        await events_of(model, "x", Sampling(max_tokens=5))


async def test_a_cancel_closes_the_connection(stub: StubServer, engine: OpenAIEngine) -> None:
    model = await engine.load(spec_of(stub))
    stub.answers["/v1/completions"], stub.is_silent_after = (200, CHUNK), True
    async with aclosing(model.generate("x", Sampling(max_tokens=5))) as events:
        await anext(events)
    async with asyncio.timeout(5):
        await stub.left.wait()


async def test_a_silent_server_is_given_up(stub: StubServer, engine: OpenAIEngine) -> None:
    model = await engine.load(spec_of(stub, timeout_s=0.2))
    stub.answers["/v1/completions"], stub.is_silent_after = (200, CHUNK), True
    with pytest.raises(EngineFailed, match=r"said nothing for 0\.2 s"):
        await events_of(model, "x", Sampling(max_tokens=5))


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_a_failed_answer_does_not_lose_the_model(stub: StubServer, engine: OpenAIEngine, status: int) -> None:
    model = await engine.load(spec_of(stub))
    stub.answers["/v1/completions"] = (status, "the stub refuses")
    with pytest.raises(EngineFailed) as failed:
        await events_of(model, "x", Sampling(max_tokens=1))
    assert not failed.value.is_model_lost


async def test_a_server_that_cannot_be_reached_while_it_still_answers_others_does_not_lose_the_model(engine: OpenAIEngine) -> None:
    async with stub_server() as stub:
        model = await engine.load(spec_of(stub))
        stub.answers["/v1/completions"], stub.is_silent_after = (200, CHUNK), True
        async with aclosing(model.generate("x", Sampling(max_tokens=5))) as other:
            await anext(other)
            stub.stop_listening()
            with pytest.raises(EngineFailed, match="cannot be reached") as failed:
                await events_of(model, "x", Sampling(max_tokens=5))
            assert not failed.value.is_model_lost
        with pytest.raises(EngineFailed, match="cannot be reached") as failed:
            await events_of(model, "x", Sampling(max_tokens=5))
        assert failed.value.is_model_lost


@pytest.mark.parametrize("key", ["schl\u00fcssel", "two\nlines"])
async def test_a_key_that_no_header_can_carry_is_told_and_not_shown(stub: StubServer, key: str) -> None:
    engine = OpenAIEngine(environment={"TEST_KEY": key})
    with pytest.raises(ModelLoadFailed, match="TEST_KEY") as refusal:
        await engine.load(spec_of(stub))
    assert key.splitlines()[0] not in str(refusal.value)
    assert stub.asked == []


async def test_the_line_end_of_a_key_from_a_file_is_no_part_of_it(stub: StubServer) -> None:
    await OpenAIEngine(environment={"TEST_KEY": f"{API_KEY}\n"}).load(spec_of(stub))
    assert stub.asked == ["/v1/models"]


def test_a_load_is_expected_to_take_no_time(engine: OpenAIEngine) -> None:
    assert engine.expected_load_s(openai_spec("http://127.0.0.1:9")) == 0.0


async def test_a_server_that_went_away_loses_the_model(engine: OpenAIEngine) -> None:
    async with stub_server() as stub:
        model = await engine.load(spec_of(stub))
    with pytest.raises(EngineFailed, match="cannot be reached"):
        await events_of(model, "x", Sampling(max_tokens=5))
    assert "cannot be reached" in await model.wait_lost()


async def test_the_weights_are_woken_at_load_and_put_to_sleep_at_close(stub: StubServer, engine: OpenAIEngine) -> None:
    stub.answers |= {"/wake_up": (200, ""), "/sleep?level=1": (200, "")}
    model = await engine.load(spec_of(stub, residency="vllm-sleep"))
    await model.close()
    assert stub.asked == ["/v1/models", "/wake_up {}", "/sleep?level=1 {}"]


async def test_a_server_that_cannot_take_the_weights_in_is_told(stub: StubServer, engine: OpenAIEngine) -> None:
    with pytest.raises(ModelLoadFailed, match="404"):
        await engine.load(spec_of(stub, residency="ollama"))
