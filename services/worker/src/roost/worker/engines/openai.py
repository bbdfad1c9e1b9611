"""A proxy to any server that speaks the OpenAI completions API: vLLM, Ollama, llama-server and others.

Loading means checking that the server answers and lists the model. Two servers can also be told to take the weights in and out, by
the option `residency`: "vllm-sleep" (POST /wake_up and /sleep, vLLM's sleep mode in development mode) and "ollama" (POST
/api/generate with keep_alive -1 and 0). Those two follow the documented API and were not tested against the real servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from typing import Final, TypeVar

import httpx

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed, RoostError
from roost.worker.engines.interface import GenerationEvent, PromptRead, Sampling
from roost.worker.engines.lifeline import Lifeline, LifelineCut
from roost.worker.engines.openai_wire import DEFAULT_TIMEOUT_S, Answer, Server, listed_models, refusal, request_body
from roost.worker.engines.sse import Chunk, error_text, read_line

CONNECT_TIMEOUT_S: Final = 5.0
RESIDENCY_TIMEOUT_S: Final = 600.0  # the server loads weights meanwhile
MAX_ERROR_BYTES: Final = 64 * 1024

T = TypeVar("T")


class OpenAIModel:
    """A model that a server answers for. It is lost once the server cannot be reached while it answers nothing else."""

    def __init__(self, spec: ModelSpec, server: Server, client: httpx.AsyncClient) -> None:
        self._spec = spec
        self._server = server
        self._client = client
        self._lifeline = Lifeline()
        self._answering = 0
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        """False once it was closed."""
        return not self._lifeline.is_cut

    @property
    def max_parallel(self) -> int:
        return self._spec.max_parallel

    async def generate(self, prompt: str, sampling: Sampling) -> AsyncGenerator[GenerationEvent, None]:
        """See `LoadedModel.generate`. A token here is what the server sends at once; ids are -1."""
        if not prompt:
            raise InvalidField("prompt", "is empty; there is nothing to continue")
        if not self.is_open:
            raise EngineFailed(self._spec.name, "it was unloaded")
        request = self._client.build_request(
            "POST", f"{self._server.base_url}/completions", json=request_body(self._server.model, prompt, sampling)
        )
        response = await self._wait(self._client.send(request, stream=True))
        self._answering += 1
        try:
            if response.status_code != httpx.codes.OK:
                raise await self._refusal(response)
            lines = response.aiter_lines()
            answer = Answer(self._spec.name, sampling)
            while not answer.is_over:
                chunk = await self._next_chunk(lines, answer)
                if not answer.has_begun:
                    yield PromptRead(0)
                for token in answer.take(chunk):
                    yield token
            yield answer.finished()
        finally:
            self._answering -= 1
            await response.aclose()

    async def _next_chunk(self, lines: AsyncIterator[str], answer: Answer) -> Chunk:
        """The next chunk; the end of the stream counts as one that is done, and so does a break once the answer is complete."""
        try:
            while (line := await self._wait(anext(lines, None))) is not None:
                chunk = read_line(line)
                if chunk is not None:
                    return chunk
        except EngineFailed:
            if not answer.is_complete:
                raise
        return Chunk(is_done=True)

    async def _refusal(self, response: httpx.Response) -> RoostError:
        said = await self._wait(_sentence(response))
        return refusal(self._spec, response.status_code, said, response.headers.get("retry-after", ""))

    async def _wait(self, awaitable: Awaitable[T]) -> T:
        """The awaitable's value, or EngineFailed for every way in which a connection fails."""
        name, url = self._spec.name, self._server.base_url
        try:
            return await self._lifeline.wait(awaitable, self._server.timeout_s)
        except LifelineCut:
            raise EngineFailed(name, "it was unloaded") from None
        except (TimeoutError, httpx.ReadTimeout):
            raise EngineFailed(name, f"{url} said nothing for {self._server.timeout_s:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            why = f"{url} cannot be reached: {error or type(error).__name__}"
            is_lost = self._answering == 0  # else it lives, and only takes no more for now
            if is_lost and not self._lost.done():
                self._lost.set_result(why)
            raise EngineFailed(name, why, is_model_lost=is_lost) from error
        except httpx.HTTPError as error:
            raise EngineFailed(name, f"the connection to {url} broke: {error or type(error).__name__}") from error

    async def wait_lost(self) -> str:
        """See `LoadedModel.wait_lost`."""
        return await asyncio.shield(self._lost)

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


async def _sentence(response: httpx.Response) -> str:
    """The server's sentence in an error answer, or the beginning of whatever it sent."""
    body = bytearray()
    async for block in response.aiter_bytes():
        body += block
        if len(body) > MAX_ERROR_BYTES:
            break
    text = body.decode("utf-8", "replace").strip()
    try:
        return error_text(json.loads(text))
    except ValueError:
        return text[:500]


class OpenAIEngine:
    """Opens a client for each model. API keys come from `environment`, under the name that the entry's `api_key_env` gives."""

    def __init__(self, *, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._models: set[OpenAIModel] = set()

    def expected_load_s(self, spec: ModelSpec) -> float:  # noqa: ARG002 - the signature is the interface's
        """See `Engine.expected_load_s`. The server loads, or has loaded, and does not say how long it takes."""
        return 0.0

    async def load(self, spec: ModelSpec) -> OpenAIModel:
        """See `Engine.load`. Checks that the server answers, takes the key and lists the model (if it lists any)."""
        server = Server.of(spec)
        client = self._client(spec)
        try:
            await self._check(spec, server, client)
            call = server.residency_call(is_wanted=True)
            if call is not None:
                answer = await client.post(call[0], json=call[1], timeout=RESIDENCY_TIMEOUT_S)
                _check_status(spec, server, answer)
        except BaseException as error:
            await client.aclose()
            if isinstance(error, httpx.TimeoutException):
                raise ModelLoadFailed(spec.name, f"{server.base_url} did not answer in time") from error
            if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
                raise ModelLoadFailed(spec.name, f"{server.base_url} cannot be reached: {error or type(error).__name__}") from error
            raise
        model = OpenAIModel(spec, server, client)
        self._models = {known for known in self._models if known.is_open} | {model}
        return model

    def _client(self, spec: ModelSpec) -> httpx.AsyncClient:
        headers = {}
        variable = str(spec.options.get("api_key_env", ""))
        if variable:
            key = self._environment.get(variable, "").strip()
            if not key:
                raise ModelLoadFailed(spec.name, f"its API key must be in the environment variable {variable}, which is not set")
            if not (key.isascii() and key.isprintable()):  # said here, because whoever trips over it shows the key
                raise ModelLoadFailed(spec.name, f"the API key in the environment variable {variable} has characters that no key may have")
            headers["Authorization"] = f"Bearer {key}"
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(float(spec.options.get("timeout_s", DEFAULT_TIMEOUT_S)), connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=spec.max_parallel + 1, max_keepalive_connections=spec.max_parallel),
        )

    async def _check(self, spec: ModelSpec, server: Server, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"{server.base_url}/models")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return  # it answers, and does not list
        _check_status(spec, server, answer)
        listed = listed_models(answer.text)
        if listed and not {server.model, f"{server.model}:latest"} & listed:  # Ollama lists a name with its tag
            raise ModelLoadFailed(spec.name, f"{server.base_url} has no model {server.model!r}; it has {', '.join(sorted(listed)[:10])}")

    async def close(self) -> None:
        """See `Engine.close`."""
        models, self._models = self._models, set()
        for model in models:
            await model.close()


def _check_status(spec: ModelSpec, server: Server, answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        said = error_text(answer.json())
    except ValueError:
        said = answer.text[:500].strip()
    why = refusal(spec, answer.status_code, said, "")
    words = why.why if isinstance(why, EngineFailed) else str(why)
    raise ModelLoadFailed(spec.name, f"{server.base_url}: {words}")
