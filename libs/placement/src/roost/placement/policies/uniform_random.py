"""Any worker that can take the request, each equally likely.

Prefers nothing; its cost does not depend on the cluster, and it needs no fresh view: the floor that every other policy must beat. Behaves
badly always, and worst with few requests on many workers: the fullest of n workers gets about ln n / ln ln n times its share, and a model
is ready where the request goes only as often as it is ready anywhere.
"""

from __future__ import annotations

from roost.placement.fleet import Fleet
from roost.placement.policies.policy import Choice, Policy, Waiting, the
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng
from roost.placement.sampling import draw


class UniformRandom(Policy):
    because = "was picked at random"

    def __init__(self, fleet: Fleet, rng: Rng) -> None:
        self._fleet = fleet
        self._rng = rng

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | None:
        del waiting
        drawn = draw(self._fleet, request, self._rng, 1)
        return the(drawn[0]) if drawn else None
