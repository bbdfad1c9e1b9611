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
    silent_paths: set[str] = field(default_factory=set)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""
    stop_listening: Callable[[], object] = lambda: None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        lengths = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length")]
        body = await reader.readexactly(int(lengths[0]) if lengths else 0)
        self.asked.append(f"{path} {body.decode()}" if body else path)
        if path in self.silent_paths:
            await reader.read()
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


FINISH = 'data: {"choices": [{"text": "", "finish_reason": "stop"}]}\n\n'
WHOLE = '{"choices": [{"text": " a", "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}'


@pytest.mark.parametrize(
    ("headers", "sent", "text"),
    [
        ("", 'data: {"choices": [{"text": " a",\ndata:  "finish_reason": "stop"}]}\n\n', " a"),
        ("", 'data: {"choices": [{"text": "a\u2028b\x85c"}]}\n\n' + FINISH, "a\u2028b\x85c"),
        ("Content-Type: text/event-stream; charset=iso-8859-1\r\n", 'data: {"choices": [{"text": "\u00e9"}]}\n\n' + FINISH, "\u00e9"),
        ("Content-Type: text/plain\r\n", "\ufeff" + CHUNK + FINISH, " a"),
        ("Content-Type: application/json\r\n", WHOLE, " a"),
        ("", CHUNK.replace("\n\n", "\n") + FINISH.replace("\n\n", "\n"), " a"),
        ("", (CHUNK + FINISH).replace("\n", "\r"), " a"),
        ("", ": waiting\n\nevent: ping\ndata: now\n\n" + CHUNK + FINISH + "data: [DONE]", " a"),
    ],
    ids=["two-lines", "line-separators", "charset", "byte-order-mark", "not-streamed", "no-blank-lines", "cr", "pings"],
)
async def test_an_odd_stream_is_read_whole(stub: StubServer, engine: OpenAIEngine, headers: str, sent: str, text: str) -> None:
    model = await engine.load(spec_of(stub))
    stub.answers["/v1/completions"], stub.headers = (200, sent), headers
    events = await events_of(model, "x", Sampling(max_tokens=5))
    assert text_in(events) == text
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    ("headers", "sent", "words"),
    [
        ("Content-Type: text/html\r\n", "<html>please log in</html>", "log in"),
        ("Content-Type: application/json\r\n", '{"error": {"message": "no memory"}}', "no memory"),
        ("Content-Type: application/json\r\n", "{}", "before the text was complete"),
        ("", CHUNK + 'error: {"message": "no memory"}\n\n', "no memory"),
        ("", CHUNK + 'event: error\ndata: {"message": "no memory"}\n\n', "no memory"),
        ("", CHUNK + "data: [DONE]\n\n", "before the text was complete"),
        ("", CHUNK + 'data: {"choices": [{"text": "", "finish_reason": "abort"}]}\n\ndata: [DONE]\n\n', "abort"),
        ("", "data: " + "x" * 5_000_000, "more than 4194304 bytes"),
        ("Content-Length: 1e9\r\n", "", "broke"),
    ],
    ids=["page", "error-json", "empty-json", "error-line", "error-event", "early-end", "abort", "endless", "no-number"],
)
async def test_a_broken_answer_is_an_error(stub: StubServer, engine: OpenAIEngine, headers: str, sent: str, words: str) -> None:
    model = await engine.load(spec_of(stub))
    stub.answers["/v1/completions"], stub.headers = (200, sent), headers
    with pytest.raises(EngineFailed, match=words):
        await events_of(model, "x", Sampling(max_tokens=5))


async def test_a_server_on_this_machine_is_reached_without_the_proxy_of_the_environment(
    stub: StubServer, engine: OpenAIEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert await engine.load(spec_of(stub))
    stub.address = stub.address.replace("127.0.0.1", "localhost")
    assert await engine.load(spec_of(stub))


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks4://127.0.0.1:9", "no proxy at all", "http://[::1"])
async def test_a_proxy_that_cannot_be_used_does_not_matter_to_a_server_on_this_machine(
    stub: StubServer, engine: OpenAIEngine, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, proxy)
    assert await engine.load(spec_of(stub))


async def test_a_server_far_away_is_asked_through_the_proxy_of_the_environment(
    stub: StubServer, engine: OpenAIEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", stub.address)
    stub.answers["http://8.8.8.8/v1/models"] = (200, LISTING)
    await engine.load(openai_spec("http://8.8.8.8", "tiny"))
    assert stub.asked == ["http://8.8.8.8/v1/models"]


async def test_a_model_that_the_server_does_not_list_may_be_served(stub: StubServer, engine: OpenAIEngine) -> None:
    stub.answers["/v1/models"] = (200, '{"data": [{"id": "other"}]}')
    with pytest.raises(ModelLoadFailed, match=r"options\.listing"):
        await engine.load(spec_of(stub))
    assert await engine.load(spec_of(stub, listing="incomplete"))


async def test_a_server_that_takes_the_connection_and_answers_nothing_is_given_up_soon(stub: StubServer, engine: OpenAIEngine) -> None:
    stub.silent_paths.add("/v1/models")
    for ask in (engine.check, engine.load):
        with pytest.raises(ModelLoadFailed, match=r"did not answer within 0\.2 s"):
            await ask(spec_of(stub, check_timeout_s=0.2))


async def test_a_server_that_falls_silent_and_answers_nobody_loses_the_model(stub: StubServer, engine: OpenAIEngine) -> None:
    model = await engine.load(spec_of(stub, check_timeout_s=0.1))
    stub.silent_paths |= {"/v1/models", "/v1/completions"}
    generation = asyncio.create_task(events_of(model, "x", Sampling(max_tokens=5)))
    async with asyncio.timeout(5):
        assert "has answered nothing" in await model.wait_lost()
        await model.close()
        with pytest.raises(EngineFailed, match="has answered nothing") as failed:
            await generation
    assert failed.value.is_model_lost


async def test_a_server_that_is_slow_and_still_answers_others_keeps_the_model(stub: StubServer, engine: OpenAIEngine) -> None:
    model = await engine.load(spec_of(stub, check_timeout_s=0.05))
    stub.silent_paths.add("/v1/completions")
    generation = asyncio.create_task(events_of(model, "x", Sampling(max_tokens=5)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await model.wait_lost()
    assert not generation.done()
    generation.cancel()


async def test_an_idle_model_asks_its_server_nothing(stub: StubServer, engine: OpenAIEngine) -> None:
    model = await engine.load(spec_of(stub, check_timeout_s=0.05))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await model.wait_lost()
    assert stub.asked == ["/v1/models"]


async def test_a_check_loads_nothing(stub: StubServer, engine: OpenAIEngine) -> None:
    await engine.check(spec_of(stub, residency="ollama"))
    assert stub.asked == ["/v1/models"]
    stub.answers["/v1/models"] = (500, "down")
    with pytest.raises(ModelLoadFailed, match="down"):
        await engine.check(spec_of(stub))


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
