"""Load indexes that follow the fleet: one for each group, or one for each model that is ready somewhere."""

from __future__ import annotations

from collections.abc import Callable

from roost.placement.candidate import Candidate, Group
from roost.placement.fleet import Fleet
from roost.placement.load_index import LoadIndex


class IndexByGroup:
    """Every candidate, filed in its group's index. Invariant: a group with members has an index that holds exactly them."""

    def __init__(self, fleet: Fleet, key_of: Callable[[Candidate], float]) -> None:
        self._fleet = fleet
        self._key_of = key_of
        self._indexes: dict[Group, LoadIndex] = {}
        fleet.follow(self)

    def for_model(self, model: str) -> list[LoadIndex]:
        """The indexes of those that can take a request for the model."""
        return [self._indexes[group] for group in self._fleet.groups_for(model)]

    def joined(self, candidate: Candidate) -> None:
        index = self._indexes.get(candidate.group)
        if index is None:
            index = self._indexes[candidate.group] = LoadIndex(self._key_of)
        index.add(candidate)

    def left(self, candidate: Candidate) -> None:
        index = self._indexes[candidate.group]
        index.remove(candidate)
        if len(index) == 0:
            del self._indexes[candidate.group]

    def lighter(self, candidate: Candidate) -> None:
        self._indexes[candidate.group].lighter(candidate)

    def gained(self, candidate: Candidate, model: str) -> None:
        pass

    def lost(self, candidate: Candidate, model: str) -> None:
        pass


class IndexByModel:
    """The candidates that have a model ready, filed in the model's index. Invariant: exactly `Fleet.ready_on`.

    `key_for` a model gives the function that its index files by.
    """

    def __init__(self, fleet: Fleet, key_for: Callable[[str], Callable[[Candidate], float]]) -> None:
        self._key_for = key_for
        self._indexes: dict[str, LoadIndex] = {}
        fleet.follow(self)

    def get(self, model: str) -> LoadIndex | None:
        """The model's index, None if it is ready nowhere."""
        return self._indexes.get(model)

    def joined(self, candidate: Candidate) -> None:
        pass

    def left(self, candidate: Candidate) -> None:
        pass

    def lighter(self, candidate: Candidate) -> None:
        for model in candidate.ready:
            self._indexes[model].lighter(candidate)

    def gained(self, candidate: Candidate, model: str) -> None:
        index = self._indexes.get(model)
        if index is None:
            index = self._indexes[model] = LoadIndex(self._key_for(model))
        index.add(candidate)

    def lost(self, candidate: Candidate, model: str) -> None:
        index = self._indexes[model]
        index.remove(candidate)
        if len(index) == 0:
            del self._indexes[model]
