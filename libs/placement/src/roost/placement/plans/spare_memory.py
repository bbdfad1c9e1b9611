"""Copies into free memory: where requests of a model wait, it is loaded on one more worker that has room for it.

To rent or to buy: requests that wait for a slot although their model is ready, or is being loaded, pay rent for the copy that is not there.
When what they have paid together since the last copy, fading, has reached the price, the copy is bought. A load into memory that nobody
uses makes nobody wait, so its price is a share of what it takes, PRICE_LOADS of it, for the loader's time. It goes to the worker with room
that the demand for its own models keeps least busy. So one request's wait is not weighed against a load that all later ones gain by.
Nothing is bought beside a model's first load unless its demand would keep the loader's slots busier than CROWDED: a thousand at once that
are answered in a moment are one load. And memory is free for copies only beyond what models without a home will want of it (`Spare`).

Prefers clusters with memory to spare, where it makes of one crowded copy as many as the demand pays for. Behaves badly where a load slows
down what runs beside it, for it takes that for free; and where several deciders each see part of the demand, for each then buys later. It
puts nobody out: a copy leaves when its memory is wanted, and is bought again only when there is room again and it has been paid for again.
"""

from __future__ import annotations

from roost.placement.candidate import Candidate
from roost.placement.plans.plan import Ground, Plan, Wish
from roost.placement.plans.rents import Rents
from roost.placement.plans.spare import Spare
from roost.placement.policies.policy import Choice, Patience
from roost.placement.request import PlacementRequest

PRICE_LOADS = 0.3  # at 0.1 copies are bought that nobody needed, at 1 those who wait pay as much again as they gain
CROWDED = 0.6  # share of the slots of those that load it
LOOK_AGAIN_S = 0.25  # where no worker has room
TOLD_FOR_S = 1.0  # a worker that was told to load a model reports that it does by then; until then it is told nothing else


class SpareMemory(Plan):
    """State: the rent that requests have paid, what memory is to spare, and what each worker was told last until its report shows that."""

    def __init__(self, ground: Ground) -> None:
        self._fleet, self._costs = ground
        self._rents = Rents(ground)
        self._spare = Spare(ground)
        self._told: dict[str, tuple[str, float]] = {}

    def asked(self, request: PlacementRequest, choice: Choice | Patience, backlog: int, now: float) -> Wish | None:
        rent = self._rents.pay(request, choice, backlog, now)
        if rent is None or now < rent.looks_at:
            return None
        load_s = self._rents.load_s(request.model)
        if rent.paid_s < PRICE_LOADS * load_s or not self._is_crowded(request.model, now):
            return None
        told = choice.copy_to if isinstance(choice, Patience) else ""
        home = self._home(request, told, now)
        if home is None:
            rent.looks_at = now + LOOK_AGAIN_S
            return None
        why = f"{rent.told(now)}, a load takes {load_s:.1f} s"
        self._rents.spend(request.model, now)
        self._spare.take(self._costs.estimates.size_bytes(home, request.model))
        self._told[home.node_id] = (request.model, now)
        return Wish(home.node_id, request.model, why)

    def _is_crowded(self, model: str, now: float) -> bool:
        """Whether its waits are for slots: they are where it is ready, and where its first load will not have slots enough for it."""
        if self._fleet.has_ready(model):
            return True
        loading = self._fleet.loading_on(model)
        holder = next(iter(loading.values()))
        busy_slots = self._costs.demand.rate(model, now) * self._costs.estimates.own_service_s(holder, model)
        return busy_slots >= CROWDED * holder.state.slots * len(loading)

    def _home(self, request: PlacementRequest, told: str, now: float) -> Candidate | None:
        """The worker with room that its own models keep least busy; not the one that is `told` to load the model anyway.

        None where no memory is to spare.
        """
        homes = [
            candidate
            for group in self._fleet.groups_for(request.model)
            for candidate in group.members
            if candidate.node_id not in request.excluded and candidate.node_id != told and self._is_free_for(candidate, request.model, now)
        ]
        if homes and self._spare.bytes(now) < self._costs.estimates.size_bytes(homes[0], request.model):
            return None
        return min(homes, key=self._costs.busy_share, default=None)

    def _is_free_for(self, candidate: Candidate, model: str, now: float) -> bool:
        if model in candidate.state.models or model in candidate.reserved.by_model or not self._costs.has_room(candidate, model):
            return False
        told = self._told.get(candidate.node_id)
        if told is not None and (told[0] in candidate.state.models or told[1] + TOLD_FOR_S <= now):
            del self._told[candidate.node_id]
            told = None
        return told is None
