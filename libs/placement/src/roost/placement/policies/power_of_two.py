"""The less loaded of two workers drawn at random (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).

Prefers idle workers without looking at all of them, and is robust against old views: many deciders with the same stale view do not all
choose the same worker. The fullest of n workers is about ln ln n above its share. Behaves badly, as least-loaded does, when there are
more models than one worker holds: it does not know what a worker has in memory.
"""

from __future__ import annotations

from roost.placement.fleet import Fleet
from roost.placement.policies.load import load
from roost.placement.policies.policy import Choice, Policy, Waiting, the
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng
from roost.placement.sampling import draw


class PowerOfTwo(Policy):
    """`choices` other than two are for comparison: each further one gains little (Mitzenmacher, as above, section 3)."""

    because = "is the less loaded of two picked at random"

    def __init__(self, fleet: Fleet, rng: Rng, choices: int = 2) -> None:
        self._choices = choices
        self._fleet = fleet
        self._rng = rng

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | None:
        del waiting
        drawn = draw(self._fleet, request, self._rng, self._choices)
        return the(min(drawn, key=load)) if drawn else None  # of equals the first drawn, and either was as likely to be
