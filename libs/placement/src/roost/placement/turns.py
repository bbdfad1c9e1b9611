"""When a line that waits for a load is due, whatever that costs others: a fair turn.

Where M models are in use and there are memory spaces for S, each space serves M / S models in turn, and a turn takes as long as a load, the
time the model stays, and the time what runs in its place needs to end. So a line that is loaded after M / S turns is treated as all are,
and one that insists on less only puts out others that insist, too: with every line due, nothing is served between loads. Where the models
fit, that is a turn or less, and the turn is TURN_LOADS of the model's own loads.
"""

from __future__ import annotations

import math

from roost.placement.costs import RESIDENCY_LOADS
from roost.placement.estimates import Estimates
from roost.placement.fleet import Fleet

# Waiting longer than two loads to spare others a load of theirs would be no fairness where there is room for all. At least a second,
# because a load that takes no time is no reason to be hasty.
TURN_LOADS = 2.0
SHORTEST_TURN_S = 1.0
COUNTED_FOR_S = 0.5  # how many models and spaces there are is counted again after that


def turn_s(load_s: float, service_s: float, slots: int, models_per_space: float) -> float:
    """How long the first of a line waits at most before its model's load is due. The slots drain like so many exponential times."""
    drain_s = service_s * (1.0 + math.log(slots))
    return max(SHORTEST_TURN_S, TURN_LOADS * load_s, models_per_space * ((1.0 + RESIDENCY_LOADS) * load_s + drain_s))


class Turns:
    """State: the models that are in memory somewhere and the spaces there are, counted `as_of` then."""

    def __init__(self, fleet: Fleet, estimates: Estimates) -> None:
        self._fleet = fleet
        self._estimates = estimates
        self._as_of = -math.inf
        self._held: set[str] = set()
        self._spaces = 0.0

    def turn_s(self, model: str, waiting: int, now: float) -> float:
        """For the model's line, with lines for so many models `waiting`."""
        for group in self._fleet.groups_for(model):
            some = group.members[0]
            if not 0 <= now - self._as_of <= COUNTED_FOR_S:
                self._count(now)
            models_per_space = (len(self._held) + waiting) / max(1.0, self._spaces)
            load_s, service_s = self._estimates.whole_load_s(some, model), self._estimates.own_service_s(some, model)
            return turn_s(load_s, service_s, some.state.slots, models_per_space)
        return SHORTEST_TURN_S

    def _count(self, now: float) -> None:
        """A worker's spaces are as many as fit of what it holds on average; one that holds nothing has one."""
        self._as_of, self._held, self._spaces = now, set(), 0.0
        for candidate in self._fleet.candidates():
            models, capacity = candidate.state.models, candidate.state.memory_capacity_bytes
            held_bytes = sum(status.size_bytes for status in models.values())
            self._spaces += max(1.0, len(models) * capacity / held_bytes if held_bytes and capacity else len(models))
            self._held.update(candidate.ready)

    def __repr__(self) -> str:
        return f"<Turns {len(self._held)} models in {self._spaces:.1f} spaces>"
