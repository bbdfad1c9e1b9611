"""The question: one request that needs a worker."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

from roost.cluster.errors import InvalidField
from roost.cluster.names import MAX_MODEL_NAME, MAX_REQUEST_ID, PRIORITIES, check_model_name, check_priority, check_request_id

MAX_EXCLUDED = 256  # a client that was refused this often has another problem
NO_WORKERS: frozenset[str] = frozenset()
_new_tuple = tuple.__new__


class _Fields(NamedTuple):  # made for every request, at half of what a frozen dataclass costs
    request_id: str
    model: str
    priority: int = 0
    prompt_tokens: int = 0
    max_tokens: int = 0
    deadline_s: float = 0.0
    excluded: frozenset[str] = NO_WORKERS
    may_queue: bool = False


class PlacementRequest(_Fields):
    """One request that needs a worker. Token counts and `deadline_s` (to the first token) are 0 where not known.

    Raises InvalidField, named as on the wire, if a value is out of range.
    """

    __slots__ = ()

    def __new__(  # noqa: PLR0913, PLR0917  # one for each field
        cls,
        request_id: str,
        model: str,
        priority: int = 0,
        prompt_tokens: int = 0,
        max_tokens: int = 0,
        deadline_s: float = 0.0,
        excluded: frozenset[str] = NO_WORKERS,
        may_queue: bool = False,  # noqa: FBT001, FBT002  # a field
    ) -> Self:
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
            _refuse(request_id, model, priority, prompt_tokens, max_tokens, deadline_s, excluded)
        return _new_tuple(cls, (request_id, model, priority, prompt_tokens, max_tokens, deadline_s, excluded, may_queue))


def _refuse(  # noqa: PLR0913, PLR0917  # one for each field that can be wrong
    request_id: str, model: str, priority: int, prompt_tokens: int, max_tokens: int, deadline_s: float, excluded: frozenset[str]
) -> None:
    check_request_id(request_id)
    check_model_name(model, "model_required")
    check_priority(priority)
    for name, tokens in (("prompt_tokens", prompt_tokens), ("max_tokens", max_tokens)):
        if tokens < 0:
            raise InvalidField(name, f"must be 0 (not known) or more (got {tokens})")
    if not math.isfinite(deadline_s) or deadline_s < 0:
        raise InvalidField("deadline_s", f"must be a finite number of seconds, 0 (no bound) or more (got {deadline_s})")
    if len(excluded) > MAX_EXCLUDED:
        raise InvalidField("excluded_workers", f"names {len(excluded)} workers; at most {MAX_EXCLUDED} are allowed")
