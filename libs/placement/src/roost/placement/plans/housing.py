"""Who lives with whom: where a worker is asked for more than it can serve, a model moves to where it crowds less.

When a crowd is placed in its first second nobody knows the demand. When requests of a model have waited for slots together for as long as
a load takes and as those lose whose model must make room, it is loaded on another worker in place of the one that is asked for least there:
where the busier of both workers will be least busy, and less than before by MARGIN. The other model is loaded again for its next request,
most cheaply where the moved one lived before: both have changed their homes, with two loads.

Prefers clusters in which every model that is asked for is in memory. Behaves badly where demand changes faster than loads take; where a
worker puts out another model than the one that is asked for least; and with more models than memory, where it would only add loads: it
does nothing while requests wait for a model that nobody has, and for SETTLES_S after that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from roost.placement.candidate import Candidate
from roost.placement.demand import WINDOW_S
from roost.placement.plans.plan import Ground, Plan, Wish
from roost.placement.plans.rents import Rents
from roost.placement.policies.policy import Choice, Patience
from roost.placement.request import PlacementRequest

CROWDED = 0.9  # share of its slots: a worker that is asked for less gets on with whoever lives there, whatever chance brings
MARGIN = 0.15  # rates that are counted over half a minute are known to some percent
SETTLES_S = WINDOW_S  # before demand is known anew, nothing is moved again
SETTLES_LOADS = 10.0  # or so many loads of what was moved, so that moving takes a tenth of the loader's time at most
LOOK_AGAIN_S = 0.5


class _Move(NamedTuple):
    busier: float  # share of the slots of the busier of both workers, after it
    home: Candidate
    leaves: str
    price_s: float


class Housing(Plan):
    """State: the rent that requests have paid, and until when nothing is moved."""

    def __init__(self, ground: Ground) -> None:
        self._fleet, self._costs = ground
        self._rents = Rents(ground)
        self._settled_at = -math.inf

    def waits(self, request: PlacementRequest, patience: Patience, now: float) -> Wish | None:
        del patience
        if not self._fleet.has_ready(request.model):
            self._settled_at = max(self._settled_at, now + SETTLES_S)
        return None

    def asked(self, request: PlacementRequest, choice: Choice | Patience, backlog: int, now: float) -> Wish | None:
        model = request.model
        rent = self._rents.pay(request, choice, backlog, now)
        if rent is None or now < self._settled_at or now < rent.looks_at or rent.paid_s < self._rents.load_s(model):
            return None
        rent.looks_at = now + LOOK_AGAIN_S
        holders = self._fleet.ready_on(model)
        if len(holders) != 1 or self._fleet.loading_on(model):
            return None
        (holder,) = holders.values()
        before = self._costs.busy_share(holder)
        if before < CROWDED:
            return None
        move = self._best(request, holder)
        if move is None or move.busier > (1.0 - MARGIN) * before or rent.paid_s < move.price_s:
            return None
        why = (
            f"{rent.told(now)}; {holder.node_id} is asked for {before:.0%} of its time, and with this the busier one for {move.busier:.0%}"
        )
        self._rents.spend(model, now)
        self._settled_at = now + max(SETTLES_S, SETTLES_LOADS * self._rents.load_s(model))
        return Wish(move.home.node_id, model, f"{why}; {move.leaves} leaves")

    def _best(self, request: PlacementRequest, holder: Candidate) -> _Move | None:
        moves = [
            move
            for group in self._fleet.groups_for(request.model)
            for candidate in group.members
            if candidate is not holder and candidate.node_id not in request.excluded
            if (move := self._move(request.model, holder, candidate)) is not None
        ]
        return min(moves, default=None, key=lambda move: move.busier)

    def _move(self, model: str, holder: Candidate, home: Candidate) -> _Move | None:
        """The model goes there, and what is asked for least there comes to the holder; None where more than one would have to leave."""
        costs, models = self._costs, home.state.models
        size = costs.estimates.size_bytes(home, model)
        if model in models or model in home.reserved.by_model or home.loading:
            return None
        leaving = [status for status in models.values() if not status.is_pinned and status.size_bytes + costs.free_bytes(home) >= size]
        if not leaving:
            return None
        least = min(leaving, key=lambda status: costs.demand.rate(status.name, costs.now)).name
        comes, goes = self._share(home, model), self._share(home, least)
        there = costs.busy_share(home) - goes + comes
        here = costs.busy_share(holder) - self._share(holder, model) + self._share(holder, least)
        load_s = costs.estimates.whole_load_s(home, model)
        return _Move(max(there, here), home, least, load_s + costs.absence_s(home, least))

    def _share(self, candidate: Candidate, model: str) -> float:
        """Of the slots, that the demand for the model keeps busy on each of its holders."""
        costs = self._costs
        copies = max(1, len(self._fleet.ready_on(model)))
        return costs.demand.rate(model, costs.now) * costs.estimates.own_service_s(candidate, model) / candidate.state.slots / copies
