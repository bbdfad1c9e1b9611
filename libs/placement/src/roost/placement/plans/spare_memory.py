"""Copies into free memory: where requests of a model wait, it is loaded on one more worker that has room for it.

To rent or to buy: requests that wait for a slot although their model is ready, or is being loaded, pay rent for the copy that is not there.
When what they have paid together since the last copy, fading, has reached the price, the copy is bought. A load into memory that nobody
uses makes nobody wait, so its price is a share of what it takes, PRICE_LOADS of it, for the loader's time. It goes to the worker with room
that the demand for its own models keeps least busy. So one request's wait is not weighed against a load that all later ones gain by.
Those who come within one load of the first that paid are one crowd, which a copy would come too late for: only who comes later buys.

Prefers clusters with memory to spare, where it makes of one crowded copy as many as the demand pays for. Behaves badly where a load slows
down what runs beside it, for it takes that for free; and where several deciders each see part of the demand, for each then buys later. It
puts nobody out: a copy leaves when its memory is wanted, and is bought again only when there is room again and it has been paid for again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from roost.placement.candidate import Candidate
from roost.placement.plans.plan import Ground, Plan, Wish
from roost.placement.policies.policy import Choice, Patience
from roost.placement.request import PlacementRequest

PRICE_LOADS = 0.3  # at 0.1 copies are bought that nobody needed, at 1 those who wait pay as much again as they gain
FADES_IN_S = 30.0  # as the demand does: rent that was paid longer ago tells nothing of what is to come
LOOK_AGAIN_S = 0.25  # where no worker has room
TOLD_FOR_S = 1.0  # a worker that was told to load a model reports that it does by then; until then it is told nothing else
MAX_MODELS = 10_000  # for which rent is kept; when there are more, all begin anew


@dataclass(slots=True)
class _Rent:
    """What requests of one model have paid, faded `as_of` then; since when; and when room is looked for at the earliest."""

    since: float
    as_of: float
    paid_s: float = 0.0
    looks_at: float = -math.inf


class SpareMemory(Plan):
    """State: for each model the rent that its requests have paid; and what each worker was told last, until its report shows that."""

    def __init__(self, ground: Ground) -> None:
        self._fleet, self._costs = ground
        self._rents: dict[str, _Rent] = {}
        self._told: dict[str, tuple[str, float]] = {}

    def asked(self, request: PlacementRequest, choice: Choice | Patience, backlog: int, now: float) -> Wish | None:
        waits_s = self._waits_s(request.model, choice, backlog)
        if waits_s <= 0:
            return None
        rent = self._pay(request, waits_s, now)
        load_s = self._load_s(request.model)
        if now < rent.looks_at or rent.paid_s < PRICE_LOADS * load_s or now < rent.since + load_s:
            return None
        told = choice.copy_to if isinstance(choice, Patience) else ""
        home = self._home(request, told, now)
        if home is None:
            rent.looks_at = now + LOOK_AGAIN_S
            return None
        why = f"requests waited {rent.paid_s:.1f} s together in {now - rent.since:.1f} s, a load takes {load_s:.1f} s"
        self._rents[request.model] = _Rent(now, now)
        self._told[home.node_id] = (request.model, now)
        return Wish(home.node_id, request.model, why)

    def _waits_s(self, model: str, choice: Choice | Patience, backlog: int) -> float:
        """For a slot of those that have the model or are loading it; nothing where nobody is, for then there is nothing to copy."""
        cost, fleet = choice.cost, self._fleet
        ready, loading = fleet.ready_on(model), fleet.loading_on(model)
        holder = next(iter(ready.values()), None) or next(iter(loading.values()), None)
        if cost is None or holder is None:
            return 0.0
        waits_s = cost.queue_s
        if isinstance(choice, Patience) and choice.copy_to:  # it waits because even a load is sooner
            waits_s += cost.load_s
        if backlog:
            waits_s += backlog * self._costs.estimates.own_service_s(holder, model) / (holder.state.slots * (len(ready) + len(loading)))
        return waits_s

    def _pay(self, request: PlacementRequest, waits_s: float, now: float) -> _Rent:
        rent = self._rents.get(request.model)
        if rent is None:
            if len(self._rents) >= MAX_MODELS:
                self._rents.clear()
            rent = self._rents[request.model] = _Rent(now, now)
        elif now > rent.as_of + FADES_IN_S:
            rent.since = now  # another crowd
        rent.paid_s = rent.paid_s * math.exp((rent.as_of - now) / FADES_IN_S) + (1 + request.priority) * waits_s
        rent.as_of = now
        return rent

    def _load_s(self, model: str) -> float:
        for group in self._fleet.groups_for(model):
            return self._costs.estimates.whole_load_s(group.members[0], model)
        return math.inf

    def _home(self, request: PlacementRequest, told: str, now: float) -> Candidate | None:
        """The worker with room that its own models keep least busy; not the one that is `told` to load the model anyway."""
        homes = [
            candidate
            for group in self._fleet.groups_for(request.model)
            for candidate in group.members
            if candidate.node_id not in request.excluded and candidate.node_id != told and self._is_free_for(candidate, request.model, now)
        ]
        return min(homes, key=self._costs.busy_share, default=None)

    def _is_free_for(self, candidate: Candidate, model: str, now: float) -> bool:
        if model in candidate.state.models or model in candidate.reserved.by_model or not self._costs.has_room(candidate, model):
            return False
        told = self._told.get(candidate.node_id)
        if told is not None and (told[0] in candidate.state.models or told[1] + TOLD_FOR_S <= now):
            del self._told[candidate.node_id]
            told = None
        return told is None
