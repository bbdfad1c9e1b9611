"""A proxy to any server that speaks the OpenAI completions API: vLLM, Ollama, llama-server and others.

Loading means checking that the server answers and lists the model. A server that falls silent in the middle of its work is asked
whether it still answers, and counts as lost once it does not. Two servers can also be told to take the weights in and out, by
the option `residency`: "vllm-sleep" (POST /wake_up and /sleep, vLLM's sleep mode in development mode) and "ollama" (POST
/api/generate with keep_alive -1 and 0). Those two follow the documented API and were not tested against the real servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Final, TypeVar

import httpx

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed, RoostError
from roost.worker.engines.interface import Finished, FinishReason, GenerationEvent, PromptRead, Resume, Sampling
from roost.worker.engines.lifeline import Lifeline, LifelineCut
from roost.worker.engines.nearness import is_near_url
from roost.worker.engines.openai_stream import EventTooLong, NoEvents, chunks_of, read_text
from roost.worker.engines.openai_wire import Answer, Server, listed_models, refusal, request_body, retry_after_s
from roost.worker.engines.replay import WEIGHTS, replay_of
from roost.worker.engines.sse import Chunk, error_text
from roost.worker.engines.text import MOST_CHARACTERS_PER_TOKEN

CONNECT_TIMEOUT_S: Final = 5.0
RESIDENCY_TIMEOUT_S: Final = 600.0  # the server loads weights meanwhile
MAX_WAIT_S: Final = 3600.0  # for one token, while the server says by comments that it lives
MAX_ERROR_BYTES: Final = 64 * 1024
MAX_LISTING_BYTES: Final = 4 * 1024 * 1024
PROBES: Final = 2  # in a row without any answer, and the server is gone: one may be lost to a stall

T = TypeVar("T")


class OpenAIModel:
    """A model that a server answers for. It is lost once the server cannot be reached, or answers nobody, while it owes an answer."""

    def __init__(self, spec: ModelSpec, server: Server, client: httpx.AsyncClient) -> None:
        self._spec = spec
        self._server = server
        self._client = client
        self._lifeline = Lifeline()
        self._asking = 0
        self._answering = 0
        self._heard_at = 0.0
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        """False once it was closed."""
        return not self._lifeline.is_cut

    @property
    def max_parallel(self) -> int:
        return self._spec.max_parallel

    @property
    def fingerprint(self) -> str:
        """See `LoadedModel.fingerprint`. What the server runs is not known, so a continuation is never exact."""
        return f"engine=openai;{WEIGHTS}={self._server.model}"

    async def generate(self, prompt: str, sampling: Sampling, resume: Resume | None = None) -> AsyncGenerator[GenerationEvent, None]:
        """See `LoadedModel.generate`. A token here is what the server sends at once; ids are -1, and resuming is by text."""
        if not prompt:
            raise InvalidField("prompt", "is empty; there is nothing to continue")
        if not self.is_open:
            raise self._ended()
        self._hear()
        self._asking += 1
        try:
            async with aclosing(self._ask(prompt, sampling, resume)) as events:
                async for event in events:
                    yield event
        finally:
            self._asking -= 1

    async def _ask(self, prompt: str, sampling: Sampling, resume: Resume | None) -> AsyncGenerator[GenerationEvent, None]:
        told = _told_text(resume)
        approximate_because = replay_of(resume, self.fingerprint).approximate_because
        if resume is not None and resume.first_index >= sampling.max_tokens:  # the last token was told, and not that it was the last
            yield PromptRead(0, approximate_because)
            yield Finished(FinishReason.LENGTH)
            return
        if resume is not None:
            prompt, sampling = prompt + told, replace(sampling, max_tokens=sampling.max_tokens - resume.first_index)
        request = self._client.build_request(
            "POST", f"{self._server.base_url}/completions", json=request_body(self._server.model, prompt, sampling)
        )
        response = await self._wait(self._client.send(request, stream=True))
        self._hear()
        self._answering += 1
        try:
            if response.status_code != httpx.codes.OK:
                raise await self._refusal(response)
            answer = Answer(self._spec.name, sampling, told)
            async with aclosing(chunks_of(response, self._hear)) as chunks:
                while not answer.is_over:
                    chunk = await self._next_chunk(chunks, answer)
                    if not answer.has_begun:
                        yield PromptRead(0, approximate_because)
                    for token in answer.take(chunk):
                        yield token
            yield _counted_once(answer.finished(), resume)
        finally:
            self._answering -= 1
            await response.aclose()

    async def _next_chunk(self, chunks: AsyncGenerator[Chunk, None], answer: Answer) -> Chunk:
        """The next chunk; the end of the stream counts as one that is done, and so does a break once the answer is complete."""
        try:
            chunk = await self._wait(anext(chunks, None))
        except EngineFailed:
            if not answer.is_complete:
                raise
            chunk = None
        return Chunk(is_done=True) if chunk is None else chunk

    async def _refusal(self, response: httpx.Response) -> RoostError:
        said = await self._wait(_sentence(response))
        return refusal(self._spec, response.status_code, said, retry_after_s(response.headers))

    async def _wait(self, awaitable: Awaitable[T]) -> T:
        """The awaitable's value, or EngineFailed for every way in which a connection fails. Silence is the client's to notice."""
        name, url = self._spec.name, self._server.base_url
        try:
            return await self._lifeline.wait(awaitable, MAX_WAIT_S)
        except LifelineCut:
            raise self._ended() from None
        except (TimeoutError, httpx.ReadTimeout):
            raise EngineFailed(name, f"{url} said nothing for {self._server.timeout_s:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            why = f"{url} cannot be reached: {error or type(error).__name__}"
            is_lost = self._answering == 0  # else it lives, and only takes no more for now
            if is_lost:
                self._lose(why)
            raise EngineFailed(name, why, is_model_lost=is_lost) from error
        except httpx.HTTPError as error:
            raise EngineFailed(name, f"the connection to {url} broke: {error or type(error).__name__}") from error
        except (NoEvents, EventTooLong) as error:
            raise EngineFailed(name, f"what {url} sent cannot be read: {error}") from error

    def _ended(self) -> EngineFailed:
        why = self._lost.result() if self._lost.done() else "it was unloaded"
        return EngineFailed(self._spec.name, why, is_model_lost=self._lost.done())

    def _hear(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()

    def _lose(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_result(why)

    async def wait_lost(self) -> str:
        """See `LoadedModel.wait_lost`. While an answer is owed and nothing comes, the server is asked whether it lives."""
        pause_s = self._server.check_timeout_s
        unanswered = 0
        while not self._lost.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    return await asyncio.shield(self._lost)
            unanswered = unanswered + 1 if self._is_silent(pause_s) and not await self._lives() else 0
            if unanswered == PROBES:
                silent_s = asyncio.get_running_loop().time() - self._heard_at
                self._lose(f"{self._server.base_url} takes requests and has answered nothing for {silent_s:.0f} s")
        return self._lost.result()

    def _is_silent(self, for_s: float) -> bool:
        return self._asking > 0 and asyncio.get_running_loop().time() - self._heard_at >= for_s

    async def _lives(self) -> bool:
        """Whether the server answers anything at all."""
        try:
            async with (
                asyncio.timeout(self._server.check_timeout_s),
                self._client.stream("GET", f"{self._server.base_url}/models"),
            ):
                return True
        except (TimeoutError, httpx.HTTPError):
            return False

    async def close(self) -> None:
        """See `LoadedModel.close`."""
        if not self.is_open:
            return
        self._lifeline.cut()
        call = self._server.residency_call(is_wanted=False)
        if call is not None:
            with contextlib.suppress(httpx.HTTPError):  # a server that is gone holds nothing
                await self._client.post(call[0], json=call[1])
        await self._client.aclose()

    def __repr__(self) -> str:
        return f"<OpenAIModel {self._spec.name} at {self._server.base_url}{'' if self.is_open else ', closed'}>"


def _counted_once(finished: Finished, resume: Resume | None) -> Finished:
    """The counts of the whole generation: its server took what was told before for part of the prompt."""
    if resume is None:
        return finished
    prompt_tokens, completion_tokens = finished.prompt_tokens, finished.completion_tokens
    return replace(
        finished,
        prompt_tokens=max(1, prompt_tokens - resume.first_index) if prompt_tokens >= 0 else prompt_tokens,
        completion_tokens=completion_tokens + resume.first_index if completion_tokens >= 0 else completion_tokens,
    )


def _told_text(resume: Resume | None) -> str:
    """Raises InvalidField if only ids were told, which no server of this API takes from another."""
    if resume is not None and not resume.text:
        raise InvalidField("generated.text", "is needed: this engine continues text, and was given none")
    return "" if resume is None else resume.text


async def _sentence(response: httpx.Response) -> str:
    """The server's sentence in an error answer, or the beginning of whatever it sent."""
    text = (await read_text(response, MAX_ERROR_BYTES)).strip()
    try:
        return error_text(json.loads(text))
    except (ValueError, RecursionError):
        return text[:500] or (f"go to {response.headers['location'][:500]}" if "location" in response.headers else "")


class OpenAIEngine:
    """Opens a client for each model. API keys come from `environment`, under the name that the entry's `api_key_env` gives."""

    def __init__(self, *, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._models: set[OpenAIModel] = set()

    def expected_load_s(self, spec: ModelSpec) -> float:  # noqa: ARG002 - the signature is the interface's
        """See `Engine.expected_load_s`. The server loads, or has loaded, and does not say how long it takes."""
        return 0.0

    def least_tokens(self, prompt: str) -> int:
        """See `Engine.least_tokens`. Of vocabularies that nobody tells, only what all have in common."""
        return len(prompt) // MOST_CHARACTERS_PER_TOKEN

    async def check(self, spec: ModelSpec) -> None:
        """See `Engine.check`. The server must answer, take the key and list the model (if it lists any)."""
        server = Server.of(spec)
        async with await self._client(spec) as client:
            await _check(spec, server, client)

    async def load(self, spec: ModelSpec) -> OpenAIModel:
        """See `Engine.load`. Checks, and has the server take the weights in where it can be told to."""
        server = Server.of(spec)
        client = await self._client(spec)
        try:
            await _check(spec, server, client)
            call = server.residency_call(is_wanted=True)
            if call is not None:
                await _call(spec, server, client, call)
        except BaseException:
            await client.aclose()
            raise
        model = OpenAIModel(spec, server, client)
        self._models = {known for known in self._models if known.is_open} | {model}
        return model

    async def close(self) -> None:
        """See `Engine.close`."""
        models, self._models = self._models, set()
        for model in models:
            await model.close()

    async def _client(self, spec: ModelSpec) -> httpx.AsyncClient:
        headers = {"Accept-Encoding": "identity"}  # text that comes bit by bit is not worth packing
        variable = str(spec.options.get("api_key_env", ""))
        if variable:
            key = self._environment.get(variable, "").strip()
            if not key:
                raise ModelLoadFailed(spec.name, f"its API key must be in the environment variable {variable}, which is not set")
            if not (key.isascii() and key.isprintable()):  # said here, because whoever trips over it shows the key
                raise ModelLoadFailed(spec.name, f"the API key in the environment variable {variable} has characters that no key may have")
            headers["Authorization"] = f"Bearer {key}"
        server = Server.of(spec)
        is_near = await is_near_url(server.base_url)
        try:
            return httpx.AsyncClient(
                headers=headers,
                timeout=httpx.Timeout(server.timeout_s, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=spec.max_parallel + 2, max_keepalive_connections=spec.max_parallel),
                verify=httpx.create_ssl_context(),  # the environment names authorities for all, proxies for distant servers
                trust_env=not is_near,
            )
        except (httpx.InvalidURL, ValueError, ImportError) as error:  # of the source, or of a proxy in the environment
            raise ModelLoadFailed(spec.name, f"{server.base_url} cannot be asked: {error}") from error


async def _check(spec: ModelSpec, server: Server, client: httpx.AsyncClient) -> None:
    try:
        async with asyncio.timeout(server.check_timeout_s), client.stream("GET", f"{server.base_url}/models") as answer:
            if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_IMPLEMENTED):
                return  # it answers, and does not list
            await _check_status(spec, server, answer)
            listed = listed_models(await read_text(answer, MAX_LISTING_BYTES)) if server.lists_all else set()
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(spec, server, error) from error
    if listed and not {server.model, f"{server.model}:latest"} & listed:  # Ollama lists a name with its tag
        hint = 'if it serves models that it does not list, set options.listing = "incomplete"'
        raise ModelLoadFailed(
            spec.name, f"{server.base_url} has no model {server.model!r}; it has {', '.join(sorted(listed)[:10])} ({hint})"
        )


async def _call(spec: ModelSpec, server: Server, client: httpx.AsyncClient, call: tuple[str, Mapping[str, str | int]]) -> None:
    try:
        async with client.stream("POST", call[0], json=call[1], timeout=RESIDENCY_TIMEOUT_S) as answer:
            await _check_status(spec, server, answer)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(spec, server, error) from error


def _unreachable(spec: ModelSpec, server: Server, error: Exception) -> ModelLoadFailed:
    if isinstance(error, TimeoutError):
        return ModelLoadFailed(spec.name, f"{server.base_url} did not answer within {server.check_timeout_s:g} s (options.check_timeout_s)")
    if isinstance(error, httpx.TimeoutException):
        return ModelLoadFailed(spec.name, f"{server.base_url} did not answer in time")
    return ModelLoadFailed(spec.name, f"{server.base_url} cannot be reached: {error or type(error).__name__}")


async def _check_status(spec: ModelSpec, server: Server, answer: httpx.Response) -> None:
    if answer.is_success:
        return
    why = refusal(spec, answer.status_code, await _sentence(answer))
    words = why.why if isinstance(why, EngineFailed) else str(why)
    raise ModelLoadFailed(spec.name, f"{server.base_url}: {words}")
