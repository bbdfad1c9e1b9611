"""What names may look like, and which known name a mistyped one is nearest to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from roost.cluster.errors import InvalidField

MAX_MODEL_NAME = 128
MAX_WORKER_NAME = 64
MAX_REQUEST_ID = 128
NEAREST_NAMES = 3
PRIORITIES = 10  # 0 (default, lowest) to 9 (highest)

_WORKER_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_WORKER_NAME}}}")


def check_model_name(name: str, field: str = "model") -> str:
    """Return `name` if a model may be called so. Raises InvalidField."""
    if not name:
        raise InvalidField(field, "is empty; give the catalogue name of a model")
    if len(name) > MAX_MODEL_NAME:
        raise InvalidField(field, f"has {len(name)} characters; at most {MAX_MODEL_NAME} are allowed")
    if not name.isprintable():
        raise InvalidField(field, "has characters that cannot be printed")
    return name


def check_worker_name(name: str, field: str = "node_id") -> str:
    """Return `name` if a worker may be called so. Raises InvalidField."""
    if not _WORKER_NAME.fullmatch(name):
        raise InvalidField(field, f"must be 1-{MAX_WORKER_NAME} of A-Z a-z 0-9 . _ - (got {name[:80]!r})")
    return name


def check_request_id(request_id: str, field: str = "request_id") -> str:
    """Return `request_id` if it is short enough to keep. Raises InvalidField."""
    if len(request_id) > MAX_REQUEST_ID:
        raise InvalidField(field, f"has {len(request_id)} characters; at most {MAX_REQUEST_ID} are allowed")
    return request_id


def check_priority(priority: int, field: str = "priority") -> int:
    """Return `priority` if it is 0-9. Raises InvalidField."""
    if not 0 <= priority < PRIORITIES:
        raise InvalidField(field, f"must be 0-9, where 9 is served first (got {priority})")
    return priority


def nearest_names(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """The known names most like `name`, best first, at most three."""
    by_folded = {candidate.casefold(): candidate for candidate in sorted(known)}
    matches = difflib.get_close_matches(name.casefold(), by_folded, n=NEAREST_NAMES, cutoff=0.5)
    return tuple(by_folded[match] for match in matches)
