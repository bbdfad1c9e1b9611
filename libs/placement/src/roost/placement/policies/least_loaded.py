"""The worker with the fewest requests for each slot, whatever it has in memory.

Prefers idle workers, and so spreads requests as evenly as can be over slots. Behaves badly when there are more models than one worker
holds: it sends a request away from the worker that has its model ready to one that must load it first, and the loads evict each other.
"""

from __future__ import annotations

from roost.placement.fleet import Fleet
from roost.placement.fleet_indexes import IndexByGroup
from roost.placement.load_index import lightest
from roost.placement.policies.load import load
from roost.placement.policies.policy import Choice, Policy, Waiting, the
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng


class LeastLoaded(Policy):
    because = "is least loaded"

    def __init__(self, fleet: Fleet, rng: Rng) -> None:
        self._rng = rng
        self._everyone = IndexByGroup(fleet, load)

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | None:
        del waiting
        chosen = lightest(self._everyone.for_model(request.model), self._rng, request.excluded)
        return None if chosen is None else the(chosen)
