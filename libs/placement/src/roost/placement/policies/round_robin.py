"""One worker after the other, in the order of their names.

Prefers nobody, and gives each worker exactly its turn where all can take all requests. Behaves badly when requests or workers differ: a
turn is a turn, whether the worker is idle or a minute behind, and a model is loaded everywhere in turn. One cursor serves all models, so
where models can go to different workers, those that follow a gap in the order get the gap's turns too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from roost.placement.candidate import Candidate
from roost.placement.fleet import Fleet
from roost.placement.ordered import Ordered, ordered
from roost.placement.policies.policy import Choice, Policy, Waiting, the
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng


class RoundRobin(Policy):
    """State: the names of all candidates in order, and the name that had the last turn. The first turn is anyone's, by chance."""

    because = "is next in turn"
    is_spread = True  # each decider began with a worker of its own

    def __init__(self, fleet: Fleet, rng: Rng) -> None:
        self._fleet = fleet
        self._rng = rng
        self._names: Ordered[str] = ordered()
        self._last: str | None = None
        fleet.follow(self)

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | None:
        del waiting
        last = self._last
        if last is None and len(self._names):
            last = self._names[self._rng.randrange(len(self._names))]
        groups = self._fleet.groups_for(request.model)
        if not groups:
            return None
        for name in self._after(last):
            candidate = self._fleet.get(name)
            if candidate is not None and candidate.group in groups and name not in request.excluded:
                return the(candidate)
        return None

    def taken(self, request: PlacementRequest, choice: Choice) -> None:
        del request
        self._last = choice.candidate.node_id

    def _after(self, last: str | None) -> Iterator[str]:
        """All names once, from the one whose turn it is: the first after the one that had the last turn."""
        return chain(self._names.irange(last, None, (False, True)), self._names.irange(None, last))

    def joined(self, candidate: Candidate) -> None:
        self._names.add(candidate.node_id)

    def left(self, candidate: Candidate) -> None:
        self._names.remove(candidate.node_id)

    def lighter(self, candidate: Candidate) -> None:
        pass

    def gained(self, candidate: Candidate, model: str) -> None:
        pass

    def lost(self, candidate: Candidate, model: str) -> None:
        pass
