"""What every policy is."""

from __future__ import annotations

from typing import Protocol

from roost.placement.candidate import Candidate
from roost.placement.request import PlacementRequest


class Policy(Protocol):
    """Chooses one candidate of the fleet it was built for."""

    @property
    def because(self) -> str:
        """Why its choice was chosen, as it reads after a worker's name: "is least loaded"."""

    def choose(self, request: PlacementRequest) -> Candidate | None:
        """A candidate that can take the request and is not excluded; None only if there is none. Equals are told apart by chance."""
