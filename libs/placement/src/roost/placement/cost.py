"""What it costs to send a request to one worker, part by part, so that a decision can be explained by its sums."""

from __future__ import annotations

from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds. All but `eviction_s` are the request's own wait; that one is what others are expected to wait because of it.

    `queue_s` for a slot, beyond the load; `load_s` for the model, whole or what is left of it; `memory_s` for memory to load it into;
    `eviction_s` for whoever asks next for what is put out; `first_token_s` from the slot to the first token.
    """

    queue_s: float
    load_s: float = 0.0
    memory_s: float = 0.0
    eviction_s: float = 0.0
    first_token_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.queue_s + self.load_s + self.memory_s + self.eviction_s + self.first_token_s

    @property
    def own_s(self) -> float:
        """Until this request's own first token."""
        return self.queue_s + self.load_s + self.memory_s + self.first_token_s
