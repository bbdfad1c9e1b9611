"""Plain affinity: the least loaded of those that have the model or are loading it; where there is none, the least loaded of all loads it.

Prefers one copy of each model, and is what most routers of models do. Behaves badly when a model is hot, for it never makes a second copy,
and when more models are in use than fit, for then every miss puts out a model that is missed next.
"""

from __future__ import annotations

from roost.placement.fleet import Fleet
from roost.placement.fleet_indexes import IndexByGroup, IndexByModel
from roost.placement.load_index import lightest
from roost.placement.policies.coming import Coming
from roost.placement.policies.load import load
from roost.placement.policies.policy import Choice, Policy, Waiting, the
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng


class Affinity(Policy):
    because = "is least loaded"

    def __init__(self, fleet: Fleet, rng: Rng) -> None:
        self._rng = rng
        self._holders = IndexByModel(fleet, lambda _model: load)
        self._everyone = IndexByGroup(fleet, load)
        self._coming = Coming(fleet)

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | None:
        del waiting
        holders = self._holders.get(request.model)
        ready = None if holders is None else lightest((holders,), self._rng, request.excluded)
        chosen = ready or min(self._coming.to(request), key=load, default=None)
        if chosen is None:
            chosen = lightest(self._everyone.for_model(request.model), self._rng, request.excluded)
        return None if chosen is None else the(chosen)

    def taken(self, request: PlacementRequest, choice: Choice) -> None:
        self._coming.sending(choice.candidate, request.model)
