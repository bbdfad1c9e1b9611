"""What it costs to send a request to one worker, part by part, so that a decision can be explained by its sums."""

from __future__ import annotations

from typing import NamedTuple


class Cost(NamedTuple):
    """Seconds. The request's own wait, but for `eviction_s` and `crowding_s`: those are what others are expected to wait because of it.

    `queue_s` for a slot, beyond the load; `load_s` for the model, whole or what is left of it; `memory_s` for memory to load it into;
    `eviction_s` for whoever asks next for what is put out; `crowding_s` for whoever asks for the model while one load takes, behind the
    requests of the models that are there; `first_token_s` from the slot to the first token.
    """

    queue_s: float
    load_s: float = 0.0
    memory_s: float = 0.0
    eviction_s: float = 0.0
    first_token_s: float = 0.0
    crowding_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.queue_s + self.load_s + self.memory_s + self.eviction_s + self.first_token_s + self.crowding_s

    @property
    def own_s(self) -> float:
        """Until this request's own first token."""
        return self.queue_s + self.load_s + self.memory_s + self.first_token_s
