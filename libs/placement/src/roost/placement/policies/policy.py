"""What every policy is."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from roost.placement.candidate import Candidate
from roost.placement.cost import Cost
from roost.placement.request import PlacementRequest


class Policy(Protocol):
    """Chooses one candidate of the fleet it was built for."""

    @property
    def because(self) -> str:
        """Why its choice was chosen, as it reads after a worker's name: "is least loaded"."""

    def choose(self, request: PlacementRequest) -> Candidate | None:
        """A candidate that can take the request and is not excluded; None only if there is none. Equals are told apart by chance."""


class Waiting(NamedTuple):
    """Who waits in the decider for the same model as a request, and so what it costs to let them wait.

    `backlog` of them are served before it. Together they, and it, have waited `waited_s`, and `weight` more each second; a request counts
    once and once more for each priority. `is_due`: its model's turn to be loaded has come, whatever that costs others. `can_tell`: workers
    can be told to load a model without a request that goes there.
    """

    backlog: int = 0
    waited_s: float = 0.0
    weight: float = 1.0
    is_due: bool = False
    can_tell: bool = False


class Patience(NamedTuple):
    """It is better to wait: `retry_in_s` is when that may have changed if no report comes before; `cost` is what binding now would cost.

    `copy_to` names a worker that should load the model meanwhile, "" for none.
    """

    retry_in_s: float
    cost: Cost
    copy_to: str = ""


@runtime_checkable
class PatientPolicy(Policy, Protocol):
    """A policy that can tell when a request should rather wait in the decider than for one worker."""

    def choose_or_wait(self, request: PlacementRequest, waiting: Waiting) -> Candidate | Patience | None:
        """As `choose`, or Patience."""
