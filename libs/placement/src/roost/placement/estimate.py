"""How long a request would wait on one worker, in parts that a decision and its reason are made from."""

from __future__ import annotations

from typing import NamedTuple


class Estimate(NamedTuple):
    """`wait_s` until the request starts, with `ahead` others waiting for a slot before it. `load_s` is None if the model is ready.

    `memory_s` is the part of `load_s` that the load waits for memory.
    """

    wait_s: float
    ahead: int
    load_s: float | None
    is_loading: bool
    memory_s: float = 0.0


A_SLOT_IS_LEFT = Estimate(0.0, 0, None, False)
DEPENDS_ON_MODEL = Estimate(-1.0, 0, None, False)  # no estimate: that there is none for all models that are ready there
