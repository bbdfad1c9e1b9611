"""What a worker tells of a generation, step by step: accepted once, then tokens, then completed once. Times are in seconds.

Between them it says that it has started, and how the generation stands while there is no token; `Resumed` is the flow's own.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from roost.cluster.worker_state import CacheResult


class FinishReason(enum.Enum):
    """Why a generation ended."""

    UNKNOWN = "unknown"
    STOP = "stop"
    LENGTH = "length"


class ResumePolicy(enum.Enum):
    """What is wanted of a generation whose worker is lost after the first token."""

    EXACT = "exact"  # the text of the undisturbed generation, however long it takes to get back to where it was
    FAST = "fast"  # exactly where that takes about two seconds or less, else as soon as possible
    NEVER = "never"  # it is not continued


class Exactness(enum.Enum):
    """Whether a generation that was continued reads as it would have without a break."""

    UNKNOWN = "unknown"
    EXACT = "exact"
    APPROXIMATE = "approximate"


class Phase(enum.Enum):
    """Where a request stands on its worker."""

    UNKNOWN = "unknown"
    QUEUED = "queued"
    LOADING = "loading"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The worker has the request in its queue, `queue_position` others ahead of it.

    `seed` is the one that holds, None where nothing is drawn; `fingerprint` is what the text depends on beside the request, "" where that
    is not known yet; `resumed_from` is the index of the first token.
    """

    request_id: str
    worker_id: str
    cache: CacheResult | None
    queue_position: int
    seed: int | None = None
    fingerprint: str = ""
    resumed_from: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """The engine has begun; `approximate_because` is why the whole generation is not exact, "" where it is."""

    fingerprint: str
    exactness: Exactness
    approximate_because: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """There is no token to tell: how it stands. `ahead` requests come before it, `fraction` (0.0-1.0) of the phase is done, and it is
    expected to end in `eta_s`; each is 0 where it is not known.
    """

    phase: Phase
    ahead: int = 0
    fraction: float = 0.0
    eta_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Resumed:
    """Another worker (or the same one again) goes on after `from_worker` was lost; `index` is that of the token that comes next."""

    from_worker: str
    to_worker: str
    index: int
    exactness: Exactness
    approximate_because: str = ""


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
    """The end of a generation that went well. `usage` counts the whole of it, each token once; `timings` are those of the last worker.

    `resumes`: how often it was continued; `exactness`: whether it reads as it would have without that, and if not, why.
    """

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    cache: CacheResult | None
    resumes: int = 0
    exactness: Exactness = Exactness.UNKNOWN
    approximate_because: str = ""
