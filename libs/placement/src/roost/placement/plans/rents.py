"""What requests have paid together by waiting for a slot although their model is ready, or being loaded, somewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

from roost.placement.demand import WINDOW_S
from roost.placement.plans.plan import Ground
from roost.placement.policies.policy import Choice, Patience
from roost.placement.request import PlacementRequest

FADES_IN_S = WINDOW_S  # as the demand does: rent that was paid longer ago tells nothing of what is to come
MAX_MODELS = 10_000  # for which rent is kept; when there are more, all begin anew


@dataclass(slots=True)
class Rent:
    """What requests of one model have paid, faded `as_of` then; since when; and when it is next worth a look what it buys."""

    since: float
    as_of: float
    paid_s: float = 0.0
    looks_at: float = -math.inf

    def told(self, now: float) -> str:
        """As it stands in a reason."""
        return f"requests waited {self.paid_s:.1f} s together in {now - self.since:.1f} s"


class Rents:
    """State: the rent of each model."""

    def __init__(self, ground: Ground) -> None:
        self._fleet, self._costs = ground
        self._rents: dict[str, Rent] = {}

    def pay(self, request: PlacementRequest, choice: Choice | Patience, backlog: int, now: float) -> Rent | None:
        """The rent of its model with what this request adds, 1 + its priority times; None where it adds nothing."""
        model = request.model
        waits_s = self._waits_s(model, choice, backlog)
        if waits_s <= 0:
            return None
        rent = self._rents.get(model)
        if rent is None:
            if len(self._rents) >= MAX_MODELS:
                self._rents.clear()
            rent = self._rents[model] = Rent(now, now)
        rent.paid_s = rent.paid_s * math.exp((rent.as_of - now) / FADES_IN_S) + (1 + request.priority) * waits_s
        rent.as_of = now
        return rent

    def spend(self, model: str, now: float) -> None:
        """Something was bought for it: it is paid for anew."""
        self._rents[model] = Rent(now, now)

    def load_s(self, model: str) -> float:
        """What a load of it is expected to take, infinite if nobody can load it."""
        for group in self._fleet.groups_for(model):
            return self._costs.estimates.whole_load_s(group.members[0], model)
        return math.inf

    def _waits_s(self, model: str, choice: Choice | Patience, backlog: int) -> float:
        """For a slot of those that have the model or are loading it; nothing where nobody is, for then its load is what it waits for."""
        cost, fleet = choice.cost, self._fleet
        ready, loading = fleet.ready_on(model), fleet.loading_on(model)
        holder = next(iter(ready.values()), None) or next(iter(loading.values()), None)
        if cost is None or holder is None:
            return 0.0
        waits_s = cost.queue_s
        would_load = isinstance(choice, Patience) and choice.copy_to  # it waits because even a load is sooner
        joins = not ready and len(loading) == 1  # no copy spares it that, but it tells that more come, who will need a second
        if would_load or joins:
            waits_s += cost.load_s
        if backlog:
            waits_s += backlog * self._costs.estimates.own_service_s(holder, model) / (holder.state.slots * (len(ready) + len(loading)))
        return waits_s
