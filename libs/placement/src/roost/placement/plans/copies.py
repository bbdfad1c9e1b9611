"""Copies: where requests wait for a model that is ready somewhere, and a copy is worth more than it costs, the policy's worker loads it.

Prefers to have the copy loaded while those who wait keep their place: whoever is free first, a holder or the copy, has them. Behaves badly
where workers take long to report what they load: after TOLD_FOR_S it asks for another copy; and where a worker does not do as it is told,
for then those who wait wait for nothing, until their model's turn has come.
"""

from __future__ import annotations

import math

from roost.placement.plans.plan import Ground, Plan, Wish
from roost.placement.policies.policy import Patience
from roost.placement.request import PlacementRequest

TOLD_FOR_S = 1.0  # a worker that was told to load a model reports that it does by then; until then nobody else is told
MAX_TOLD = 10_000  # models; when more were told of, those that have reported long ago are forgotten


class Copies(Plan):
    """State: when a copy of each model was asked for last."""

    def __init__(self, ground: Ground) -> None:
        del ground
        self._told: dict[str, float] = {}

    def waits(self, request: PlacementRequest, patience: Patience, now: float) -> Wish | None:
        model = request.model
        if not patience.copy_to or self._told.get(model, -math.inf) + TOLD_FOR_S > now:
            return None
        if len(self._told) >= MAX_TOLD:
            self._told = {name: at for name, at in self._told.items() if at + TOLD_FOR_S > now}
        self._told[model] = now
        return Wish(patience.copy_to, model, "waiting costs its requests more than a load")
