"""What every policy is: asked, it chooses and changes nothing; told that its choice was taken, it keeps in mind what follows from that."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from roost.placement.candidate import Candidate
from roost.placement.cost import Cost
from roost.placement.costs import Priced
from roost.placement.request import PlacementRequest

NOTHING_PRICED: Mapping[Candidate, Priced] = MappingProxyType({})


class Waiting(NamedTuple):
    """Who waits in the decider for the same model as a request, and so what it costs to let them wait.

    `backlog` of them are served before it. Together they, and it, have waited `waited_s`, and `weight` more each second; a request counts
    once and once more for each priority. `is_due`: its model's turn to be loaded has come, whatever that costs others. `can_tell`: workers
    can be told to load a model without a request that goes there. `is_new`: the request has not waited yet.
    """

    backlog: int = 0
    waited_s: float = 0.0
    weight: float = 1.0
    is_due: bool = False
    can_tell: bool = False
    is_new: bool = False


class Choice(NamedTuple):
    """Where a request should go. `cost` is what that costs, None where the policy does not weigh costs; `considered` are all that it
    priced, the chosen one among them, in the order in which it did.
    """

    candidate: Candidate
    cost: Cost | None = None
    considered: Mapping[Candidate, Priced] = NOTHING_PRICED


_new_tuple = tuple.__new__  # a third of the time of the class that wraps it


def the(candidate: Candidate) -> Choice:
    """The choice of a policy that does not weigh costs."""
    return _new_tuple(Choice, (candidate, None, NOTHING_PRICED))


class Patience(NamedTuple):
    """It is better to wait: `retry_in_s` is when that may have changed if no report comes before; `cost` is what binding now would cost.

    `copy_to` names a worker that should load the model meanwhile, "" for none.
    """

    retry_in_s: float
    cost: Cost
    copy_to: str = ""


class Policy(Protocol):
    """Chooses one candidate of the fleet it was built for. A policy names this as its base, for what most of them share."""

    because: str
    """Why its choice was chosen, as it reads after a worker's name: "is least loaded"."""
    is_patient: bool = False
    """Whether it ever answers that a request had better wait."""
    is_spread: bool = False
    """Whether deciders with the same view choose differently by themselves, and a coin on top would only spoil that."""

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | Patience | None:
        """A candidate that can take the request and is not excluded; None only if there is none. Equals are told apart by chance.

        `waiting` None: the request may not wait, or has no time to, and there is no Patience. Nothing but the chance that it draws is
        changed by asking.
        """

    def taken(self, request: PlacementRequest, choice: Choice) -> None:
        """The request goes where `choose` said just now. Most policies have nothing to keep in mind."""
        del request, choice
