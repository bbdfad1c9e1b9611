"""What every plan is."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from roost.placement.costs import Costs
from roost.placement.fleet import Fleet
from roost.placement.policies.policy import Choice, Patience
from roost.placement.request import PlacementRequest


class Wish(NamedTuple):
    """A worker should load a model. `why` is for an operator, as it reads after "loads gemma on worker-3: "."""

    node_id: str
    model: str
    why: str = ""


class Ground(NamedTuple):
    """What a plan decides from: the decider's own, to read and not to write."""

    fleet: Fleet
    costs: Costs


class Plan(Protocol):
    """Makes wishes of what it is told. Time is the caller's, in seconds. A plan names this as its base, and hears what it needs."""

    def asked(self, request: PlacementRequest, choice: Choice | Patience, backlog: int, now: float) -> Wish | None:
        """A new request will wait for a slot or a load, by what was chosen for it.

        It waits behind `backlog` others in the decider that want its model.
        """
        del request, choice, backlog, now
        return None

    def waits(self, request: PlacementRequest, patience: Patience, now: float) -> Wish | None:
        """The request was asked for, or tried again, and waits; what should be begun because of it."""
        del request, patience, now
        return None
