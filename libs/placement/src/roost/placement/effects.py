"""What whoever drives a decider must do for it now. Values, in the order in which they are to be done."""

from __future__ import annotations

import enum
from typing import NamedTuple

from roost.cluster.errors import RoostError
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket


class Answered(NamedTuple):
    """Tell whoever holds the ticket. Each ticket is answered once, unless it was given up."""

    ticket: Ticket
    result: Decision | RoostError


class Load(NamedTuple):
    """Have the worker load the model, with no request that goes there. Nothing is lost if it cannot: requests go where there is room.

    `why` is for an operator, as it reads after what is loaded where.
    """

    node_id: str
    model: str
    why: str = ""


class Life(enum.Enum):
    """What befell a worker."""

    JOINED = "joined"  # never seen before
    RESTARTED = "restarted"  # a later life of a known worker
    RETURNED = "returned"  # it was suspect or dead
    SUSPECTED = "suspected"  # its stream broke, it is silent, or somebody says so
    DIED = "died"
    LEFT = "left"  # it said goodbye
    FORGOTTEN = "forgotten"


class Changed(NamedTuple):
    """Something befell a worker. `silent_s`: how long nothing was heard of it, where that is why; else 0.0."""

    node_id: str
    life: Life
    silent_s: float = 0.0


Effect = Answered | Load | Changed
