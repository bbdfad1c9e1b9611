"""Memory that is to spare: free, and not wanted by models that are asked for and have no home yet.

State: the bytes of it, counted again after COUNTED_FOR_S, less what was taken since then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from roost.placement.demand import WINDOW_S
from roost.placement.plans.plan import Ground

COUNTED_FOR_S = 0.25
WANTED_REQUESTS = 1.0  # within the window of the demand: a model that was asked for once a while ago may do with memory that is in use


class Spare:
    """In a decider's first seconds, before the demand is known, any model of the catalogue may be asked for next."""

    def __init__(self, ground: Ground) -> None:
        self._fleet, self._costs = ground
        self._as_of = -math.inf
        self._bytes = 0.0

    def bytes(self, now: float) -> float:
        """Below zero where even all memory that is free is too little; infinite where a worker has no bound."""
        if not 0 <= now - self._as_of <= COUNTED_FOR_S:
            self._as_of = now
            self._bytes = sum(map(self._costs.free_bytes, self._fleet.candidates())) - sum(self._wanted_bytes(now))
        return self._bytes

    def take(self, size_bytes: float) -> None:
        """Something is loaded that was not wanted when they were counted."""
        self._bytes -= size_bytes

    def _wanted_bytes(self, now: float) -> Iterator[float]:
        fleet, costs = self._fleet, self._costs
        is_known = costs.demand.is_known(now)
        for name, somewhere in {name: group.members[0] for group in fleet.groups() for name in group.loadable}.items():
            if fleet.has_ready(name) or fleet.loading_on(name):
                continue
            if not is_known or costs.demand.rate(name, now) * WINDOW_S > WANTED_REQUESTS:
                yield costs.estimates.size_bytes(somewhere, name)

    def __repr__(self) -> str:
        return f"<Spare {self._bytes / 1e9:.1f} GB at {self._as_of:.3f} s>"
