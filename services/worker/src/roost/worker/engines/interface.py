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


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. `temperature` 0.0 is greedy; `top_k` 0 and `top_p` 1.0 do not cut; `seed` None is the engine's choice."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptRead:
    """First event of a generation: the prompt has this many tokens and has been read."""

    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """One token. `id` is -1 where the engine does not tell; `text` may be empty while a character is incomplete."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event of a generation that was not cancelled.

    `prompt_tokens` is -1, or the count where an engine learns it only at the end (its PromptRead then said 0).
    """

    reason: FinishReason
    prompt_tokens: int = -1


GenerationEvent = PromptRead | GeneratedToken | Finished


class LoadedModel(Protocol):
    """Weights in memory. Owned by the model cache, which closes it when it evicts it."""

    @property
    def max_parallel(self) -> int:
        """Generations it can run at once, 1 or more; the worker asks for no more than this."""

    def generate(self, prompt: str, sampling: Sampling) -> AsyncGenerator[GenerationEvent, None]:
        """PromptRead, then GeneratedToken for each token, then Finished.

        Raises InvalidField (prompt too long for the context, nothing to read), NoCapacity (it is busy), EngineFailed (this generation
        broke; the model and what else runs on it are lost only if the error says so).
        """

    async def wait_lost(self) -> str:
        """Returns, with the reason, when the weights are gone without `close` (a child died). May never return."""

    async def close(self) -> None:
        """Frees the memory. Generations still running end with EngineFailed. Idempotent."""


class Engine(Protocol):
    """Makes loaded models out of catalogue entries."""

    def expected_load_s(self, spec: ModelSpec) -> float:
        """Seconds a load of `spec` takes before one was measured; 0.0 where nothing is loaded here."""

    async def load(self, spec: ModelSpec) -> LoadedModel:
        """Raises ModelLoadFailed, naming what is wrong with the source. Cancelling it leaves nothing behind."""

    async def close(self) -> None:
        """Closes everything it loaded. Idempotent."""
