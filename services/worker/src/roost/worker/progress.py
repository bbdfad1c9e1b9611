"""How far one request has come, and where its time went. Pure."""

from __future__ import annotations

from roost.worker.engines.interface import FinishReason
from roost.worker.generation import PhaseTimes


class Progress:
    """State: the moments one request passed, on the caller's clock, each not before the one ahead of it."""

    def __init__(self, accepted_at: float) -> None:
        self.prompt_tokens = 0
        self.tokens = 0
        self._told_tokens = -1
        self.reason: FinishReason | None = None
        self._accepted_at = accepted_at
        self._ready_at = accepted_at
        self._granted_at = accepted_at
        self._first_at: float | None = None
        self._last_at: float | None = None

    def granted(self, now: float, ready_at: float) -> None:
        """It holds a slot; its model has been ready since `ready_at`, which may be before it arrived."""
        self._granted_at = now
        self._ready_at = min(now, max(self._accepted_at, ready_at))

    def token(self, now: float) -> int:
        """One more token; returns its index, from 0."""
        if self._first_at is None:
            self._first_at = now
        self._last_at = now
        self.tokens += 1
        return self.tokens - 1

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
    def queue_wait_s(self) -> float:
        """From acceptance to the slot, the load included."""
        return self._granted_at - self._accepted_at

    @property
    def first_token_s(self) -> float:
        """From acceptance to the first token; 0.0 before it."""
        return 0.0 if self._first_at is None else self._first_at - self._accepted_at

    def times(self, now: float) -> PhaseTimes:
        """Where the time went until `now`; without tokens all of the slot's time was prefill."""
        first_at = now if self._first_at is None else self._first_at
        last_at = now if self._last_at is None else self._last_at
        return PhaseTimes(
            queued_s=self._granted_at - self._ready_at,
            load_s=self._ready_at - self._accepted_at,
            prefill_s=first_at - self._granted_at,
            decode_s=last_at - first_at,
        )
