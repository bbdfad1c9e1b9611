"""What is said to and by an OpenAI-compatible server, without the connection: addresses, requests, refusals, answers. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, NoCapacity, RoostError
from roost.worker.engines.interface import Finished, FinishReason, GeneratedToken, Sampling
from roost.worker.engines.sse import Chunk
from roost.worker.engines.text import StopFilter

DEFAULT_TIMEOUT_S: Final = 120.0  # the longest silence: a first token behind a long queue
RETRY_AFTER_S: Final = 1.0  # where a busy server names no time
MAX_RETRY_AFTER_S: Final = 3600.0

_UNKNOWN_ID: Final = -1


@dataclass(frozen=True, slots=True)
class Server:
    """One OpenAI-compatible server as the catalogue names it: "http://HOST:PORT/v1#MODEL"."""

    base_url: str
    model: str
    timeout_s: float
    residency: str

    @classmethod
    def of(cls, spec: ModelSpec) -> Server:
        url, _, model = spec.source.partition("#")
        timeout_s = float(spec.options.get("timeout_s", DEFAULT_TIMEOUT_S))
        return cls(url.rstrip("/"), model, timeout_s, str(spec.options.get("residency", "none")))

    @property
    def root_url(self) -> str:
        """Where the server's own calls live, beside the OpenAI ones."""
        return self.base_url.removesuffix("/v1")

    def residency_call(self, *, is_wanted: bool) -> tuple[str, Mapping[str, str | int]] | None:
        """(URL, JSON body) of the POST that takes the weights in or out; None where the server decides itself."""
        match self.residency:
            case "vllm-sleep":  # docs.vllm.ai, "Sleep Mode": needs --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1
                return f"{self.root_url}/{'wake_up' if is_wanted else 'sleep?level=1'}", {}
            case "ollama":  # ollama/ollama docs/api.md, "Load a model" and "Unload a model"
                return f"{self.root_url}/api/generate", {"model": self.model, "keep_alive": -1 if is_wanted else 0}
            case _:
                return None


def refusal(spec: ModelSpec, status: int, said: str, retry_after: str) -> RoostError:
    """What an error status means to whoever asked for text. `said` is the server's sentence."""
    what = f"the server answered {status}: {said}" if said else f"the server answered {status}"
    if status in (400, 413, 422):
        is_length = status == 413 or any(word in said.lower() for word in ("context", "too long", "length", "exceed"))
        return InvalidField("prompt" if is_length else "request", what)
    if status in (429, 503):
        return NoCapacity(f"{spec.name}: {what}", _seconds(retry_after))
    if status in (401, 403):
        named = spec.options.get("api_key_env")
        hint = f"check the key in the environment variable {named}" if named else "name the variable with a key in options.api_key_env"
        return EngineFailed(spec.name, f"{what}; {hint}")
    return EngineFailed(spec.name, what)


def _seconds(retry_after: str) -> float:
    try:
        return min(max(float(retry_after), 0.0), MAX_RETRY_AFTER_S)
    except ValueError:
        return RETRY_AFTER_S


def request_body(model: str, prompt: str, sampling: Sampling) -> Mapping[str, object]:
    """What is asked of /completions.

    Stop strings are not sent: servers differ in how many they take (OpenAI 4) and in what they do with text held back for one at
    the end (llama-server drops it). The answer is cut here, and closing the connection stops the server.
    """
    body: dict[str, object] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.temperature > 0:
        body["top_p"] = sampling.top_p
    if sampling.temperature > 0 and sampling.top_k > 0:
        body["top_k"] = sampling.top_k  # not OpenAI's, but vLLM, llama-server and Ollama know it
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    return body


def listed_models(text: str) -> set[str]:
    """The names in an answer of /models; empty where it is no listing."""
    try:
        listing = json.loads(text)
    except ValueError:
        return set()
    models = listing.get("data") if isinstance(listing, dict) else None
    return {str(model.get("id")) for model in models if isinstance(model, dict)} if isinstance(models, list) else set()


class Answer:
    """What one stream has said so far: text, why it ended, how long the prompt was, in whatever order and number they come. Pure."""

    def __init__(self, model: str, sampling: Sampling) -> None:
        self._model = model
        self._left = sampling.max_tokens
        self._stop = StopFilter(sampling.stop)
        self._reason: FinishReason | None = None
        self._prompt_tokens = -1
        self.has_begun = False
        self.is_over = False

    @property
    def is_complete(self) -> bool:
        """Whether the text is whole; only the length of the prompt may still follow."""
        return self._reason is not None

    def take(self, chunk: Chunk) -> list[GeneratedToken]:
        """The tokens that became certain. Raises EngineFailed if the server reports an error, or ends before the text does."""
        self.has_begun = True
        if chunk.error:
            raise EngineFailed(self._model, f"the server broke off: {chunk.error}")
        self._prompt_tokens = max(self._prompt_tokens, chunk.prompt_tokens)
        tokens = self._take_text(chunk.text)
        if chunk.finish_reason and not self.is_complete:
            self._reason = FinishReason.LENGTH if chunk.finish_reason == "length" else FinishReason.STOP
            tokens += self._stop.flush()
        if chunk.is_done:
            self.is_over = True
            tokens += self._end_without_reason()
        return tokens

    def _take_text(self, text: str) -> list[GeneratedToken]:
        if not text or self.is_complete:
            return []
        if self._left == 0:  # the server knows no max_tokens
            self._reason, self.is_over = FinishReason.LENGTH, True
            return self._stop.flush()
        self._left -= 1
        tokens = self._stop.push(GeneratedToken(_UNKNOWN_ID, text))
        if self._stop.is_stopped:
            self._reason, self.is_over = FinishReason.STOP, True
        return tokens

    def _end_without_reason(self) -> list[GeneratedToken]:
        if self.is_complete:
            return []
        if self._left > 0:
            raise EngineFailed(self._model, "the server ended the stream before the text was complete")
        self._reason = FinishReason.LENGTH
        return self._stop.flush()

    def finished(self) -> Finished:
        """The last event of an answer that is over."""
        return Finished(self._reason or FinishReason.STOP, self._prompt_tokens)
