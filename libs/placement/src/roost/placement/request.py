"""The question: one request that needs a worker."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from roost.cluster.errors import InvalidField
from roost.cluster.names import MAX_MODEL_NAME, MAX_REQUEST_ID, PRIORITIES, check_model_name, check_priority, check_request_id

MAX_EXCLUDED = 256  # a client that was refused this often has another problem
NO_WORKERS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, init=False)
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
    excluded: frozenset[str] = NO_WORKERS
    may_queue: bool = False

    def __init__(  # noqa: PLR0913, PLR0917  # one for each field
        self,
        request_id: str,
        model: str,
        priority: int = 0,
        prompt_tokens: int = 0,
        max_tokens: int = 0,
        deadline_s: float = 0.0,
        excluded: frozenset[str] = NO_WORKERS,
        may_queue: bool = False,  # noqa: FBT001, FBT002  # a field
    ) -> None:
        # Written out because every request passes here: what dataclass writes for a frozen class takes three times as long.
        _set_request_id(self, request_id)
        _set_model(self, model)
        _set_priority(self, priority)
        _set_prompt_tokens(self, prompt_tokens)
        _set_max_tokens(self, max_tokens)
        _set_deadline_s(self, deadline_s)
        _set_excluded(self, excluded)
        _set_may_queue(self, may_queue)
        # One condition that nearly every request meets. What does not is looked at again, to name the field.
        if not (
            len(request_id) <= MAX_REQUEST_ID
            and 0 < len(model) <= MAX_MODEL_NAME
            and model.isprintable()
            and 0 <= priority < PRIORITIES
            and prompt_tokens >= 0 <= max_tokens
            and 0 <= deadline_s < math.inf
            and len(excluded) <= MAX_EXCLUDED
        ):
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


# How the slots of a frozen object are filled: `object.__setattr__`, which finds each by its name, takes twice as long.
(
    _set_request_id,
    _set_model,
    _set_priority,
    _set_prompt_tokens,
    _set_max_tokens,
    _set_deadline_s,
    _set_excluded,
    _set_may_queue,
) = (getattr(PlacementRequest, each.name).__set__ for each in fields(PlacementRequest))
