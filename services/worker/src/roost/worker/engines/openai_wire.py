"""What is said to and by an OpenAI-compatible server, without the connection: addresses, requests, refusals, answers. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, NoCapacity, RoostError
from roost.worker.engines.interface import Finished, FinishReason, GeneratedToken, Sampling
from roost.worker.engines.sse import Chunk
from roost.worker.engines.text import Telling

DEFAULT_TIMEOUT_S: Final = 120.0  # the longest silence: a first token behind a long queue
DEFAULT_CHECK_TIMEOUT_S: Final = 5.0  # a listing of models is at hand in milliseconds, also where the server computes
RETRY_AFTER_S: Final = 1.0  # where a busy server names no time
MAX_RETRY_AFTER_S: Final = 3600.0

_UNKNOWN_ID: Final = -1
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Server:
    """One OpenAI-compatible server as the catalogue names it: "http://HOST:PORT/v1#MODEL"."""

    base_url: str
    model: str
    timeout_s: float
    check_timeout_s: float
    residency: str
    lists_all: bool

    @classmethod
    def of(cls, spec: ModelSpec) -> Server:
        url, _, model = spec.source.partition("#")
        return cls(
            base_url=url.rstrip("/"),
            model=model,
            timeout_s=float(spec.options.get("timeout_s", DEFAULT_TIMEOUT_S)),
            check_timeout_s=float(spec.options.get("check_timeout_s", DEFAULT_CHECK_TIMEOUT_S)),
            residency=str(spec.options.get("residency", "none")),
            lists_all=spec.options.get("listing", "complete") == "complete",
        )

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


def refusal(spec: ModelSpec, status: int, said: str, retry_after_s: float = RETRY_AFTER_S) -> RoostError:
    """What an error status means to whoever asked for text. `said` is the server's sentence."""
    what = f"the server answered {status}: {said}" if said else f"the server answered {status}"
    if status in (400, 413, 422):
        is_length = status == 413 or any(word in said.lower() for word in ("context", "too long", "length", "exceed"))
        return InvalidField("prompt" if is_length else "request", what)
    if status in (429, 503):
        return NoCapacity(f"{spec.name}: {what}", retry_after_s)
    if status in (401, 403):
        named = spec.options.get("api_key_env")
        hint = f"check the key in the environment variable {named}" if named else "name the variable with a key in options.api_key_env"
        return EngineFailed(spec.name, f"{what}; {hint}")
    return EngineFailed(spec.name, what)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds until a refused request may come again, by what the server's headers say: a number, or a date beside its own."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_between(headers.get("date", ""), value)
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if math.isfinite(seconds) else RETRY_AFTER_S


def _seconds_between(earlier: str, later: str) -> float:
    """Between two dates of HTTP; infinite where one is none."""
    try:
        return (parsedate_to_datetime(later) - parsedate_to_datetime(earlier)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return math.inf


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
    if sampling.presence_penalty:
        body["presence_penalty"] = sampling.presence_penalty
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    if sampling.repeat_penalty != 1.0:  # not OpenAI's: vLLM knows the first name, llama-server and Ollama the second
        body["repetition_penalty"] = body["repeat_penalty"] = sampling.repeat_penalty
    return body


def listed_models(text: str) -> set[str]:
    """The names in an answer of /models; empty where it is no listing."""
    try:
        listing = json.loads(text)
    except (ValueError, RecursionError):
        return set()
    models = listing.get("data") if isinstance(listing, dict) else None
    return {str(model.get("id")) for model in models if isinstance(model, dict)} if isinstance(models, list) else set()


class Answer:
    """What one stream has said so far: text, why it ended, what it cost, in whatever order and number they come. Pure.

    `told` is the text that was told before the stream began, and that it continues.
    """

    def __init__(self, model: str, sampling: Sampling, told: str = "") -> None:
        self._model = model
        self._max_tokens = sampling.max_tokens
        self._taken = 0
        self._half = ""
        self._stop = Telling(sampling.stop)
        if told:
            self._stop.was_told(GeneratedToken(_UNKNOWN_ID, told))
        self._reason: FinishReason | None = None
        self._prompt_tokens = -1
        self._completion_tokens = -1
        self.has_begun = False
        self.is_over = False

    @property
    def is_complete(self) -> bool:
        """Whether the text is whole; only the counts of tokens may still follow."""
        return self._reason is not None

    def take(self, chunk: Chunk) -> list[GeneratedToken]:
        """The tokens that became certain. Raises EngineFailed if the server reports an error, or ends before the text does."""
        self.has_begun = True
        if chunk.error:
            return self._broken_off(chunk.error)
        self._prompt_tokens = max(self._prompt_tokens, chunk.prompt_tokens)
        self._completion_tokens = max(self._completion_tokens, chunk.completion_tokens)
        tokens = self._take_text(chunk.text)
        if chunk.finish_reason and not self.is_complete:
            self._reason = FinishReason.LENGTH if chunk.finish_reason == "length" else FinishReason.STOP
            tokens += self._rest()
        if chunk.is_done:
            self.is_over = True
            tokens += self._end_without_reason()
        return tokens

    def _broken_off(self, error: str) -> list[GeneratedToken]:
        if not self.is_complete:
            raise EngineFailed(self._model, f"the server broke off: {error}")
        self.is_over = True  # the text is whole, and nothing of use follows
        return []

    def _take_text(self, text: str) -> list[GeneratedToken]:
        if not text or self.is_complete:
            return []
        if self._generated >= self._max_tokens:  # the server knows no max_tokens
            self._reason, self.is_over = FinishReason.LENGTH, True
            return self._rest()
        self._taken += 1
        tokens = self._stop.push(GeneratedToken(_UNKNOWN_ID, self._whole_characters(text)))
        if self._stop.is_stopped:
            self._reason, self.is_over = FinishReason.STOP, True
        return tokens

    @property
    def _generated(self) -> int:
        """Tokens so far: what the server says where it does, else the chunks with text."""
        return max(self._taken, self._completion_tokens)

    def _whole_characters(self, text: str) -> str:
        """The text without halves of characters: servers that cut at UTF-16 units send a pair in two chunks."""
        text = self._half + text
        self._half = ""
        if not _SURROGATE.search(text):
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _rest(self) -> list[GeneratedToken]:
        """What was held back; nothing follows it."""
        half, self._half = self._half, ""
        held = self._stop.push(GeneratedToken(_UNKNOWN_ID, "\ufffd")) if half else []
        return held + self._stop.flush()

    def _end_without_reason(self) -> list[GeneratedToken]:
        if self.is_complete:
            return []
        if self._generated < self._max_tokens:
            raise EngineFailed(self._model, "the server ended the stream before the text was complete")
        self._reason = FinishReason.LENGTH
        return self._rest()

    def finished(self) -> Finished:
        """The last event of an answer that is over."""
        return Finished(self._reason or FinishReason.STOP, self._prompt_tokens, self._completion_tokens)
