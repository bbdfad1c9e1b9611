"""One request for text and what comes back, as values: validated field by field, in the words of worker.proto."""

from __future__ import annotations

import math
from dataclasses import dataclass

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import InvalidField
from roost.cluster.names import check_model_name, check_priority, check_request_id
from roost.cluster.worker_state import CacheResult
from roost.worker.core.outcomes import MAX_DECISION_ID
from roost.worker.engines.interface import FinishReason, Resume, ResumePolicy, Sampling
from roost.worker.generated import NOTHING, Generated

MAX_PROMPT_BYTES = 8 * 1024 * 1024  # half of what a gRPC message may hold
MAX_TEMPERATURE = 2.0
MAX_TOP_K = 1_000
MAX_STOPS = 8
MAX_STOP_CHARACTERS = 64
MAX_WAITED_S = 86_400.0  # a day: no caller waits that long, and every request is at the highest priority long before
MAX_SEED = 2**32 - 1
MAX_PENALTY = 2.0
GENERATION_ID_BYTES = 16
MAX_ATTEMPT = 1_000_000


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
    generated: Generated = NOTHING
    generation_id: bytes = b""
    attempt: int = 0
    resume_policy: ResumePolicy = ResumePolicy.FAST
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 0.0

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
        _check_attempt(self)

    @property
    def resume(self) -> Resume | None:
        """Where the generation is taken up again; None where it begins."""
        return self.generated.resume(self.resume_policy)

    def sampling_for(self, spec: ModelSpec) -> Sampling:
        """How the engine of `spec` shall choose tokens. Raises InvalidField if more are wanted, or were told, than the model's limit."""
        if self.max_tokens > spec.max_tokens:
            raise InvalidField("max_tokens", f"must be at most {spec.max_tokens}, the limit of {spec.name} (got {self.max_tokens})")
        max_tokens = self.max_tokens or spec.default_max_tokens
        if self.generated.first_index > max_tokens:
            told = self.generated.first_index
            raise InvalidField(
                "generated.tokens", f"are {told}, more than the {max_tokens} of max_tokens; send the first call's max_tokens"
            )
        return Sampling(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p or 1.0,
            top_k=self.top_k,
            seed=self.seed,
            stop=self.stop,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repeat_penalty=self.repeat_penalty or 1.0,
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
    if request.presence_penalty or request.frequency_penalty or request.repeat_penalty:
        _check_penalties(request)


def _check_penalties(request: GenerationRequest) -> None:
    for name, penalty in (("presence_penalty", request.presence_penalty), ("frequency_penalty", request.frequency_penalty)):
        if not (math.isfinite(penalty) and -MAX_PENALTY <= penalty <= MAX_PENALTY):
            raise InvalidField(name, f"must be {-MAX_PENALTY} to {MAX_PENALTY} (got {penalty})")
    if not (math.isfinite(request.repeat_penalty) and 0.0 <= request.repeat_penalty <= MAX_PENALTY):
        raise InvalidField("repeat_penalty", f"must be above 0.0 and up to {MAX_PENALTY}, or 0 for none (got {request.repeat_penalty})")


def _check_attempt(request: GenerationRequest) -> None:
    if len(request.generation_id) not in (0, GENERATION_ID_BYTES):
        raise InvalidField("generation_id", f"must be {GENERATION_ID_BYTES} random bytes, or empty (has {len(request.generation_id)})")
    if not 0 <= request.attempt <= MAX_ATTEMPT:
        raise InvalidField("attempt", f"must be 0-{MAX_ATTEMPT} (got {request.attempt})")
    if request.attempt and not request.generation_id:
        raise InvalidField("attempt", "needs generation_id, which says of what it is an attempt")
    if request.resume_policy is ResumePolicy.NEVER and request.generated.first_index:
        raise InvalidField("resume_policy", "is NEVER although there is something to continue; leave generated out, or say EXACT or FAST")


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MAX_STOPS:
        raise InvalidField("stop", f"has {len(stops)} entries; at most {MAX_STOPS} are allowed")
    for index, stop in enumerate(stops):
        if not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
            raise InvalidField(f"stop[{index}]", f"must have 1-{MAX_STOP_CHARACTERS} characters (has {len(stop)})")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request is in the queue, with so many accepted requests ahead of it.

    `seed` is None where nothing is drawn; `fingerprint` is empty where the model is not loaded yet.
    """

    request_id: str
    worker_id: str
    cache_result: CacheResult
    queue_position: int
    seed: int | None = None
    fingerprint: str = ""
    resumed_from: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """The engine has begun, which is told where Accepted could not say this. `approximate_because` is empty where all is exact."""

    fingerprint: str
    approximate_because: str


@dataclass(frozen=True, slots=True)
class NumberedToken:
    """One token; `index` counts from 0, or from where the generation is resumed, without gaps."""

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
    """Everything was sent. The counts are those of the whole generation; `approximate_because` is empty where all of it is exact."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    times: PhaseTimes
    cache_result: CacheResult
    resumes: int = 0
    approximate_because: str = ""


GenerationEvent = Accepted | Started | NumberedToken | Completed
