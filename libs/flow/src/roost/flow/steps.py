"""What a worker tells of a generation, step by step: accepted once, then tokens, then completed once. Times are in seconds."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from roost.cluster.worker_state import CacheResult


class FinishReason(enum.Enum):
    """Why a generation ended."""

    UNKNOWN = "unknown"
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The worker has the request in its queue, `queue_position` others ahead of it."""

    request_id: str
    worker_id: str
    cache: CacheResult | None
    queue_position: int


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `index` counts from 0 without gaps, `id` is -1 where the engine does not tell, `text` may be empty."""

    index: int
    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time went on the worker."""

    queued_s: float = 0.0
    load_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0

    @property
    def time_to_first_token_s(self) -> float:
        """Seconds from acceptance to the first token."""
        return self.queued_s + self.load_s + self.prefill_s

    @property
    def served_s(self) -> float:
        """Seconds for which it held a slot."""
        return self.prefill_s + self.decode_s


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of a generation that went well."""

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    cache: CacheResult | None
