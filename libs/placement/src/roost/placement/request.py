"""The question: one request that needs a worker."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from roost.cluster.errors import InvalidField
from roost.cluster.names import MAX_MODEL_NAME, MAX_REQUEST_ID, PRIORITIES, check_model_name, check_priority, check_request_id

MAX_EXCLUDED = 256  # a client that was refused this often has another problem


@dataclass(frozen=True, slots=True)
class PlacementRequest:
    """One request that needs a worker. Token counts and `deadline_s` (to the first token) are 0 where not known.

    Raises InvalidField, named as on the wire, if a value is out of range.
    """

    request_id: str
    model: str
    priority: int = 0
    prompt_tokens: int = 0
    max_tokens: int = 0
    deadline_s: float = 0.0
    excluded: frozenset[str] = field(default_factory=frozenset)
    may_queue: bool = False

    def __post_init__(self) -> None:
        # One line that nearly every request passes: this is the hot path. What does not pass is looked at again, to name the field.
        if (
            len(self.request_id) <= MAX_REQUEST_ID
            and 0 < len(self.model) <= MAX_MODEL_NAME
            and self.model.isprintable()
            and 0 <= self.priority < PRIORITIES
            and self.prompt_tokens >= 0 <= self.max_tokens
            and 0 <= self.deadline_s < math.inf
            and len(self.excluded) <= MAX_EXCLUDED
        ):
            return
        self._refuse()

    def _refuse(self) -> None:
        check_request_id(self.request_id)
        check_model_name(self.model, "model_required")
        check_priority(self.priority)
        for name, tokens in (("prompt_tokens", self.prompt_tokens), ("max_tokens", self.max_tokens)):
            if tokens < 0:
                raise InvalidField(name, f"must be 0 (not known) or more (got {tokens})")
        if not math.isfinite(self.deadline_s) or self.deadline_s < 0:
            raise InvalidField("deadline_s", f"must be a finite number of seconds, 0 (no bound) or more (got {self.deadline_s})")
        if len(self.excluded) > MAX_EXCLUDED:
            raise InvalidField("excluded_workers", f"names {len(self.excluded)} workers; at most {MAX_EXCLUDED} are allowed")
