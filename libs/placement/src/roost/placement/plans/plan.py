"""What every plan is."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from roost.placement.policies.policy import Patience
from roost.placement.request import PlacementRequest


class Wish(NamedTuple):
    """A worker should load a model."""

    node_id: str
    model: str


class Plan(Protocol):
    """Makes wishes of what it is told. Time is the caller's, in seconds."""

    def waits(self, request: PlacementRequest, patience: Patience, now: float) -> Wish | None:
        """The request was asked for, or tried again, and waits; what should be begun because of it."""
