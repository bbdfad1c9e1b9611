"""What the worker asks of an engine. Every implementation passes `tests/engines/test_engine_suite.py`.

An engine turns a catalogue entry into a `LoadedModel`; a `LoadedModel` turns a prompt into numbered tokens. Loading and closing
never block the event loop; closing an async generator early (`aclose`) frees what the generation held within one token.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from roost.cluster.catalogue import ModelSpec


class FinishReason(enum.Enum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"


class ResumePolicy(enum.Enum):
    """What is wanted of a continued generation; see ResumePolicy in worker.proto."""

    EXACT = "exact"
    FAST = "fast"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. `temperature` 0.0 is greedy; `top_k` 0 and `top_p` 1.0 do not cut; `seed` None is the engine's choice.

    The penalties look at the generated tokens, not at the prompt; 0.0 (and 1.0 for `repeat_penalty`) are none.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0

    @property
    def has_penalties(self) -> bool:
        return bool(self.presence_penalty or self.frequency_penalty or self.repeat_penalty != 1.0)


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a generation is taken up again: what was told of it so far, by whom, and how it is to go on.

    `ids` are all `first_index` tokens, or empty where the engine that told them gave none; `text` is theirs, as far as it was told.
    `fingerprint` is that of the engine that began. The sampling is the one of the whole generation: `max_tokens` counts from its start.
    """

    first_index: int
    ids: tuple[int, ...] = ()
    text: str = ""
    fingerprint: str = ""
    policy: ResumePolicy = ResumePolicy.FAST


@dataclass(frozen=True, slots=True)
class Reading:
    """So many of so many tokens have been read; told now and then before PromptRead where reading takes long."""

    read: int
    of: int


@dataclass(frozen=True, slots=True)
class PromptRead:
    """The prompt has this many tokens, and it and all that is resumed from has been read.

    `approximate_because` says why what follows may differ from what the undisturbed generation would have told; empty: it does not.
    """

    prompt_tokens: int
    approximate_because: str = ""


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """One token. `id` is -1 where the engine does not tell; `text` may be empty while a character is incomplete."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event of a generation that was not cancelled.

    `prompt_tokens` is -1, or the count where an engine learns it only at the end (its PromptRead then said 0). `completion_tokens` is
    -1 where each GeneratedToken was one token, or the count where the engine was told it: a server may send several at once.
    """

    reason: FinishReason
    prompt_tokens: int = -1
    completion_tokens: int = -1


GenerationEvent = Reading | PromptRead | GeneratedToken | Finished


class LoadedModel(Protocol):
    """Weights in memory. Owned by the model cache, which closes it when it evicts it."""

    @property
    def max_parallel(self) -> int:
        """Generations it can run at once, 1 or more; the worker asks for no more than this."""

    @property
    def fingerprint(self) -> str:
        """All that text depends on beside the request, as `name=value` parts joined by ";": equal ones give equal text."""

    def generate(self, prompt: str, sampling: Sampling, resume: Resume | None = None) -> AsyncGenerator[GenerationEvent, None]:
        """PromptRead (Reading before it where that takes long), then GeneratedToken for each token, then Finished.

        With `resume` the tokens from `resume.first_index` on, and nothing of those before it. Raises InvalidField (too long for the
        context, nothing to read, unknown ids), NoCapacity (it is busy), EngineFailed (this generation broke; the model and what else
        runs on it are lost only if the error says so).
        """

    async def wait_lost(self) -> str:
        """Returns, with the reason, when the weights are gone without `close` (a child died). May never return."""

    async def close(self) -> None:
        """Frees the memory. Generations still running end with EngineFailed. Idempotent."""


class Engine(Protocol):
    """Makes loaded models out of catalogue entries."""

    def expected_load_s(self, spec: ModelSpec) -> float:
        """Seconds a load of `spec` takes before one was measured; 0.0 where nothing is loaded here."""

    def least_tokens(self, prompt: str) -> int:
        """So many tokens has the prompt at least, whatever the model; 0 where nothing is known. Cheap."""

    async def check(self, spec: ModelSpec) -> None:
        """Raises ModelLoadFailed for what can be seen to make `load` fail before anything is loaded: a missing or broken file, a
        server that does not answer, a key that is not set. Cheap: seconds at most, and no memory for weights.
        """

    async def load(self, spec: ModelSpec) -> LoadedModel:
        """Raises ModelLoadFailed, naming what is wrong with the source. Cancelling it leaves nothing behind."""

    async def close(self) -> None:
        """Closes everything it loaded. Idempotent."""
