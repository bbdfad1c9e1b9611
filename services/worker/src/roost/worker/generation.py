"""One request for text and what comes back, as values: validated field by field, in the words of worker.proto."""

from __future__ import annotations

import math
from dataclasses import dataclass

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import InvalidField
from roost.cluster.names import check_model_name, check_priority, check_request_id
from roost.cluster.worker_state import CacheResult
from roost.worker.core.outcomes import MAX_DECISION_ID
from roost.worker.engines.interface import FinishReason, Sampling

MAX_PROMPT_BYTES = 8 * 1024 * 1024  # half of what a gRPC message may hold
MAX_TEMPERATURE = 2.0
MAX_TOP_K = 1_000
MAX_STOPS = 8
MAX_STOP_CHARACTERS = 64
MAX_WAITED_S = 86_400.0  # a day: no caller waits that long, and every request is at the highest priority long before
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Asks for text; each field means what GenerateRequest's comment says. Raises InvalidField if one is out of range."""

    model: str
    prompt: str
    request_id: str = ""
    priority: int = 0
    max_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 0.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    decision_id: str = ""
    waited_s: float = 0.0
    waited_for_load: bool = False

    def __post_init__(self) -> None:
        check_request_id(self.request_id)
        check_model_name(self.model)
        check_priority(self.priority)
        _check_prompt(self.prompt)
        if self.max_tokens < 0:
            raise InvalidField("max_tokens", f"must be 0 (the model's default) or more (got {self.max_tokens})")
        _check_sampling(self)
        _check_stops(self.stop)
        if len(self.decision_id) > MAX_DECISION_ID:
            raise InvalidField("decision_id", f"has {len(self.decision_id)} characters; at most {MAX_DECISION_ID} are allowed")
        if not 0 <= self.waited_s <= MAX_WAITED_S:
            raise InvalidField("waited_s", f"must be 0-{MAX_WAITED_S:g} (got {self.waited_s})")

    def sampling_for(self, spec: ModelSpec) -> Sampling:
        """How the engine of `spec` shall choose tokens. Raises InvalidField if more tokens are wanted than the model's limit."""
        if self.max_tokens > spec.max_tokens:
            raise InvalidField("max_tokens", f"must be at most {spec.max_tokens}, the limit of {spec.name} (got {self.max_tokens})")
        return Sampling(
            max_tokens=self.max_tokens or spec.default_max_tokens,
            temperature=self.temperature,
            top_p=self.top_p or 1.0,
            top_k=self.top_k,
            seed=self.seed,
            stop=self.stop,
        )


def _check_prompt(prompt: str) -> None:
    if not prompt:
        raise InvalidField("prompt", "is empty; give the text to continue")
    size_bytes = len(prompt) if len(prompt) > MAX_PROMPT_BYTES else len(prompt.encode())
    if size_bytes > MAX_PROMPT_BYTES:
        raise InvalidField("prompt", f"takes {size_bytes} bytes or more; at most {MAX_PROMPT_BYTES} (8 MiB) are allowed")


def _check_sampling(request: GenerationRequest) -> None:
    if not (math.isfinite(request.temperature) and 0.0 <= request.temperature <= MAX_TEMPERATURE):
        raise InvalidField("temperature", f"must be 0.0 (greedy) to {MAX_TEMPERATURE} (got {request.temperature})")
    if not (math.isfinite(request.top_p) and 0.0 <= request.top_p <= 1.0):
        raise InvalidField("top_p", f"must be above 0.0 and up to 1.0, or 0 for no cut (got {request.top_p})")
    if not 0 <= request.top_k <= MAX_TOP_K:
        raise InvalidField("top_k", f"must be 0 (no cut) to {MAX_TOP_K} (got {request.top_k})")
    if request.seed is not None and not 0 <= request.seed <= MAX_SEED:
        raise InvalidField("seed", f"must be 0 to {MAX_SEED} (got {request.seed})")


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MAX_STOPS:
        raise InvalidField("stop", f"has {len(stops)} entries; at most {MAX_STOPS} are allowed")
    for index, stop in enumerate(stops):
        if not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            raise InvalidField(f"stop[{index}]", f"must have 1-{MAX_STOP_CHARACTERS} characters (has {len(stop)})")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is in the queue, with so many accepted requests ahead of it."""

    request_id: str
    worker_id: str
    cache_result: CacheResult
    queue_position: int


@dataclass(frozen=True, slots=True)
class NumberedToken:
    """One token; `index` counts from 0 without gaps."""

    index: int
    id: int
    text: str


@dataclass(frozen=True, slots=True)
class PhaseTimes:
    """Where a request's time went, in seconds; each 0.0 or more."""

    queued_s: float
    load_s: float
    prefill_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class Completed:
    """Everything was sent."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    times: PhaseTimes
    cache_result: CacheResult


GenerationEvent = Accepted | NumberedToken | Completed
