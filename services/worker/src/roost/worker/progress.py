"""How far one request has come, and where its time went. Pure."""

from __future__ import annotations

from roost.worker.core.jobs import Job
from roost.worker.core.standing import GenerationPhase, Standing, reading
from roost.worker.engines.interface import FinishReason
from roost.worker.generation import PhaseTimes


class Progress:
    """State: the moments one request passed, on the caller's clock, each not before the one ahead of it; `job` once it is accepted."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.prompt_tokens = 0
        self.tokens = 0
        self.approximate_because = ""
        self.reason: FinishReason | None = None
        self._told_tokens = -1
        self._read, self._of = 0, 0
        self._accepted_at = 0.0
        self._ready_at = 0.0
        self._granted_at: float | None = None
        self._first_at: float | None = None
        self._last_at: float | None = None

    def accepted(self, job: Job, resumed_from: int) -> None:
        """It is in the queue; so many tokens of it were told before."""
        self.job = job
        self.tokens = resumed_from
        self._accepted_at = self._ready_at = job.accepted_at

    def granted(self, now: float, ready_at: float) -> None:
        """It holds a slot; its model has been ready since `ready_at`, which may be before it arrived."""
        self._granted_at = now
        self._ready_at = min(now, max(self._accepted_at, ready_at))

    def reading(self, read: int, of: int) -> None:
        """So many of so many tokens were read."""
        self._read, self._of = read, of

    def prompt_read(self, prompt_tokens: int, approximate_because: str) -> None:
        """Tokens follow; the first reason that they are approximate holds for all that follow."""
        self.prompt_tokens = prompt_tokens
        self.approximate_because = self.approximate_because or approximate_because

    def token(self, now: float) -> int:
        """One more token; returns its index, from 0 or from where it is resumed."""
        if self._first_at is None:
            self._first_at = now
        self._last_at = now
        self.tokens += 1
        return self.tokens - 1

    def running(self, now: float) -> Standing | None:
        """Where it stands; None while it holds no slot."""
        if self._granted_at is None:
            return None
        if self._first_at is not None:
            return Standing(GenerationPhase.DECODE)
        return reading(self._read, self._of, now - self._granted_at)

    def finished(self, reason: FinishReason, prompt_tokens: int, completion_tokens: int) -> None:
        """The engine is done. `prompt_tokens` is -1 where it said them at the start, `completion_tokens` where all were counted here."""
        self.reason = reason
        self._told_tokens = completion_tokens
        if prompt_tokens >= 0:
            self.prompt_tokens = prompt_tokens

    @property
    def completion_tokens(self) -> int:
        """What the engine says it generated; where it says nothing, what came of it."""
        return self.tokens if self._told_tokens < 0 else self._told_tokens

    @property
    def first_token_s(self) -> float:
        """From acceptance to the first token; 0.0 before it."""
        return 0.0 if self._first_at is None else self._first_at - self._accepted_at

    def times(self, now: float) -> PhaseTimes:
        """Where the time went until `now`; without tokens all of the slot's time was prefill."""
        granted_at = now if self._granted_at is None else self._granted_at
        first_at = now if self._first_at is None else self._first_at
        last_at = now if self._last_at is None else self._last_at
        return PhaseTimes(
            queued_s=granted_at - self._ready_at,
            load_s=self._ready_at - self._accepted_at,
            prefill_s=first_at - granted_at,
            decode_s=last_at - first_at,
        )
