"""Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018, with c = 1.25).

A model's name falls on a place of a ring of workers, and the request goes to the first worker from there that has room: none gets more
than `ceil(1.25 * m / n)` of the m requests outstanding on n workers. Prefers the same worker for the same model without knowing what is
loaded where, so a stale view does it little harm, and a worker that comes or goes moves few models. Behaves badly when one model is
most of the load: its requests spill over worker after worker along the ring, each of which must load it; with fewer requests than workers
the bound is one or two, so that even a light load spills. Behaves badly, too, when only few of many workers can load a model: it walks
past the others. It knows nothing of slots or speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain

from roost.placement.candidate import Candidate
from roost.placement.fleet import Fleet
from roost.placement.ordered import Ordered, ordered
from roost.placement.policies.policy import Choice, Policy, Waiting, the
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng

LOAD_BOUND = 1.25  # 1 + epsilon: how far above the mean a worker may be
PLACES = 32  # of each worker on the ring: shares of the ring then differ by about 1 / sqrt(32) = 18 %


def place_of(text: str) -> int:
    """Where a text falls on the ring; the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


class ConsistentHash(Policy):
    """State: the places of all candidates, in order."""

    because = "is the first with room on the hash ring"

    def __init__(self, fleet: Fleet, rng: Rng) -> None:
        del rng  # a hash leaves nothing to chance: places are 64 bits wide
        self._fleet = fleet
        self._ring: Ordered[tuple[int, str]] = ordered()
        fleet.follow(self)

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | None:
        del waiting
        groups = self._fleet.groups_for(request.model)
        barred = [candidate for node_id in request.excluded if (candidate := self._fleet.get(node_id)) and candidate.group in groups]
        workers = sum(len(group.members) for group in groups) - len(barred)
        if workers == 0:
            return None
        outstanding = sum(group.outstanding for group in groups) - sum(candidate.outstanding for candidate in barred)
        bound = math.ceil(LOAD_BOUND * (outstanding + 1) / workers)
        for _, node_id in self._from((place_of(request.model), "")):
            candidate = self._fleet.get(node_id)
            if candidate is not None and candidate.outstanding < bound and candidate.group in groups and node_id not in request.excluded:
                return the(candidate)
        raise AssertionError("the mean is below the bound, so some worker is")

    def _from(self, place: tuple[int, str]) -> Iterator[tuple[int, str]]:
        """Every place once, clockwise."""
        return chain(self._ring.irange(place), self._ring.irange(None, place))

    def joined(self, candidate: Candidate) -> None:
        for number in range(PLACES):
            self._ring.add((place_of(f"{candidate.node_id}#{number}"), candidate.node_id))

    def left(self, candidate: Candidate) -> None:
        for number in range(PLACES):
            self._ring.remove((place_of(f"{candidate.node_id}#{number}"), candidate.node_id))

    def lighter(self, candidate: Candidate) -> None:
        pass

    def gained(self, candidate: Candidate, model: str) -> None:
        pass

    def lost(self, candidate: Candidate, model: str) -> None:
        pass
