"""The answer: where the request should run, and why."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Action(enum.Enum):
    """What the chosen worker will do for the request."""

    SERVE = "serve"  # the model is ready there: a cache hit
    COLD_START = "cold_start"  # it is not, and will be loaded or is being loaded
    MIGRATE = "migrate"  # something is moved out of the way first


class Decision(NamedTuple):  # made for every request, at a quarter of the cost of a frozen dataclass
    """One placement. `estimated_wait_s` is the expected time until the request starts to run (its slot and its model ready).

    `decision_id` names the reservation it made, empty where it was only asked for, as a preview; `view_age_s` is the age of what was known
    of the worker. `waited_for_load`: the request waited in the decider until its model was ready somewhere.
    """

    decision_id: str
    request_id: str
    worker_id: str
    worker_address: str
    action: Action
    estimated_wait_s: float
    reason: str
    view_age_s: float
    policy: str
    waited_for_load: bool = False
