"""The workers that may get new work, in the shape that choosing needs.

State: one `Candidate` for each live, non-draining worker of the view, with the decider's own reservations counted in; candidates that can
load the same models are in one `Group`. Invariants: a candidate is in exactly one group; `ready_on(model)` are the candidates whose last
report has the model ready; a group's `outstanding` is the sum over its members. The placer passes the view's events in; policies follow
by `FleetFollower` and are told when a candidate may have become lighter, but not when it became heavier (`LoadIndex` says why).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from roost.cluster.known_models import SharedCatalogue
from roost.cluster.view import ClusterView, WorkerEntry, fits
from roost.cluster.worker_entry import room_bytes
from roost.cluster.worker_state import Liveness, Phase, WorkerState
from roost.placement.candidate import Candidate, Group, GroupKey
from roost.placement.reservations import Tally

_READY = Phase.READY  # an enum's member is looked up in Python each time it is named: too slow for each model of each report


class FleetFollower(Protocol):
    """A policy's index of the fleet."""

    def joined(self, candidate: Candidate) -> None:
        """It may get work from now on. What it has ready follows by `gained`."""

    def left(self, candidate: Candidate) -> None:
        """It may not any more. What it had ready went before by `lost`."""

    def lighter(self, candidate: Candidate) -> None:
        """Its load changed and may have become less."""

    def gained(self, candidate: Candidate, model: str) -> None:
        """A model became ready there."""

    def lost(self, candidate: Candidate, model: str) -> None:
        """A model is not ready there any more."""


class Fleet:
    """Mutable, one owner (the placer). `tally_of` gives the reservations of a worker, the same object while it is known."""

    def __init__(self, view: ClusterView, tally_of: Callable[[str], Tally]) -> None:
        self._view = view
        self._tally_of = tally_of
        self._candidates: dict[str, Candidate] = {}
        self._draining: dict[str, WorkerEntry] = {}
        self._groups: dict[GroupKey, Group] = {}
        self._groups_by_model: dict[str, list[Group]] = {}
        self._open_groups: list[Group] = []
        self._ready_on: dict[str, dict[str, Candidate]] = {}
        self._loading_on: dict[str, dict[str, Candidate]] = {}
        self._followers: list[FleetFollower] = []

    # --- what policies ask ------------------------------------------------------------------------

    def follow(self, follower: FleetFollower) -> None:
        """Tell `follower` of each change, and now of each candidate."""
        self._followers.append(follower)
        for candidate in self._candidates.values():
            follower.joined(candidate)
            for model in sorted(candidate.ready):
                follower.gained(candidate, model)

    def get(self, node_id: str) -> Candidate | None:
        return self._candidates.get(node_id)

    def candidates(self) -> Iterable[Candidate]:
        """All of them, in the order they came."""
        return self._candidates.values()

    def __len__(self) -> int:
        return len(self._candidates)

    def groups(self) -> Iterable[Group]:
        return self._groups.values()

    def groups_for(self, model: str) -> Sequence[Group]:
        """The groups whose members can take a request for the model."""
        named = self._groups_by_model.get(model, [])
        if not self._open_groups:
            return named
        known = self._view.model(model)
        size_bytes = 0 if known is None else known.size_bytes
        return [*named, *(group for group in self._open_groups if fits(size_bytes, group.room_bytes) and group not in named)]

    def ready_on(self, model: str) -> Mapping[str, Candidate]:
        """The candidates that have the model ready, by node_id."""
        return self._ready_on.get(model, {})

    def has_ready(self, model: str) -> bool:
        """Whether a candidate has the model ready."""
        return model in self._ready_on

    def loading_on(self, model: str) -> Mapping[str, Candidate]:
        """The candidates that are loading the model, by node_id."""
        return self._loading_on.get(model, {})

    def ready_models(self) -> Iterable[str]:
        """Every model that a candidate has ready."""
        return self._ready_on.keys()

    def draining(self) -> Mapping[str, WorkerEntry]:
        """Live workers that take nothing new."""
        return self._draining

    def ready_since(self) -> Iterable[tuple[str, Mapping[str, float]]]:
        """When models were seen to become ready, by candidate."""
        return ((name, candidate.ready_since) for name, candidate in self._candidates.items() if candidate.ready_since)

    # --- how it changes ---------------------------------------------------------------------------

    def entry_changed(self, before: WorkerEntry | None, after: WorkerEntry | None) -> None:
        """The view's entry of one worker changed (`ViewListener`)."""
        entry = after or before
        if entry is None:
            return
        node_id = entry.state.node_id
        candidate = self._candidates.get(node_id)
        self._draining.pop(node_id, None)
        if after is not None and after.is_available:
            if candidate is None:
                self._join(Candidate(after, self._tally_of(node_id)))
            else:
                self._update(candidate, after)
            return
        if candidate is not None:
            self._leave(candidate)
        if after is not None and after.liveness is Liveness.LIVE:
            self._draining[node_id] = after

    def recount(self, node_id: str) -> None:
        """The worker's reservations became fewer. Followers are not told of heavier candidates (`Candidate.reserve`)."""
        candidate = self._candidates.get(node_id)
        if candidate is None:
            return
        if candidate.recount():
            for follower in self._followers:
                follower.lighter(candidate)

    def _join(self, candidate: Candidate) -> None:
        self._candidates[candidate.node_id] = candidate
        self._group_of(candidate).add(candidate)
        for follower in self._followers:
            follower.joined(candidate)
        self._set_ready(candidate, is_new=True)

    def _leave(self, candidate: Candidate) -> None:
        for model in sorted(candidate.ready):
            self._lose(candidate, model)
        for model in candidate.loading:
            _unlist(self._loading_on, model, candidate)
        for follower in self._followers:
            follower.left(candidate)
        del self._candidates[candidate.node_id]
        group = candidate.group
        group.remove(candidate)
        if not group.members:
            self._drop_group(group)

    def _update(self, candidate: Candidate, entry: WorkerEntry) -> None:
        """A newer report of a worker that stays in the fleet."""
        room = room_bytes(entry.state)
        holds_the_same = _holds_the_same(candidate, entry.state)
        if self._changes_group(candidate, entry, room, holds_the_same=holds_the_same):
            self._leave(candidate)
            moved = Candidate(entry, candidate.reserved)
            moved.go_on(candidate.ready_since)
            self._join(moved)
            return
        candidate.renew(entry, room)
        if not holds_the_same:
            self._set_ready(candidate, is_new=False)
        for follower in self._followers:
            follower.lighter(candidate)

    def _set_ready(self, candidate: Candidate, *, is_new: bool) -> None:
        """`is_new`: nobody saw when its models became ready."""
        models = candidate.state.models
        ready = {name for name, status in models.items() if status.phase is _READY}
        if len(ready) != len(models) or candidate.loading:
            self._set_loading(candidate, models.keys() - ready)
        if ready == candidate.ready:
            return
        lost, gained = candidate.set_ready(ready, is_new=is_new)
        for model in sorted(lost):  # sets of names have another order in each process, and a run must be repeatable
            self._lose(candidate, model)
        for model in sorted(gained):
            self._ready_on.setdefault(model, {})[candidate.node_id] = candidate
            for follower in self._followers:
                follower.gained(candidate, model)

    def _set_loading(self, candidate: Candidate, loading: AbstractSet[str]) -> None:
        before = candidate.set_loading(loading)
        for model in before - loading:
            _unlist(self._loading_on, model, candidate)
        for model in loading - before:
            self._loading_on.setdefault(model, {})[candidate.node_id] = candidate

    def _lose(self, candidate: Candidate, model: str) -> None:
        for follower in self._followers:
            follower.lost(candidate, model)
        _unlist(self._ready_on, model, candidate)

    # --- groups -----------------------------------------------------------------------------------

    def _changes_group(self, candidate: Candidate, entry: WorkerEntry, room: int, *, holds_the_same: bool) -> bool:
        before, state = candidate.entry, entry.state
        if entry.catalogue is not before.catalogue:
            return True
        if room == candidate.room_bytes and (holds_the_same or state.models.keys() == before.state.models.keys()):
            return False
        return self._key_of(entry) != candidate.group.key

    def _group_of(self, candidate: Candidate) -> Group:
        key = self._key_of(candidate.entry)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key)
            for model in group.loadable:
                self._groups_by_model.setdefault(model, []).append(group)
            if group.is_open:
                self._open_groups.append(group)
        return group

    def _key_of(self, entry: WorkerEntry) -> GroupKey:
        """What a worker can load: what its catalogue has and its memory has room for beside what is pinned; without a catalogue all that
        has room; and what is there.
        """
        state, room = entry.state, room_bytes(entry.state)
        if entry.catalogue is not None:
            loadable = _fitting(entry.catalogue, room)
            return GroupKey(loadable if state.models.keys() <= loadable else loadable.union(state.models))
        unfitting = {name for name in state.models if not fits(self._size_of(name), room)}
        return GroupKey(frozenset(unfitting), is_open=True, room_bytes=room)

    def _size_of(self, model: str) -> int:
        known = self._view.model(model)
        return 0 if known is None else known.size_bytes

    def _drop_group(self, group: Group) -> None:
        del self._groups[group.key]
        for model in group.loadable:
            self._groups_by_model[model].remove(group)
            if not self._groups_by_model[model]:
                del self._groups_by_model[model]
        if group.is_open:
            self._open_groups.remove(group)

    def __repr__(self) -> str:
        return f"<Fleet {len(self._candidates)} candidates in {len(self._groups)} groups, {len(self._draining)} draining>"


def _holds_the_same(candidate: Candidate, state: WorkerState) -> bool:
    """True if a newer report says itself that the same models are ready and loading; else they have to be compared."""
    said = state.changes_from(candidate.state)
    if said is None:
        return False
    models, ready, loading = state.models, candidate.ready, candidate.loading
    for name in said.changed_models:
        status = models.get(name)
        if status is None:
            if name in ready or name in loading:
                return False
        elif name not in (ready if status.phase is _READY else loading):
            return False
    return True


def _unlist(table: dict[str, dict[str, Candidate]], model: str, candidate: Candidate) -> None:
    holders = table[model]
    del holders[candidate.node_id]
    if not holders:
        del table[model]


def _fitting(catalogue: SharedCatalogue, room: int) -> frozenset[str]:
    """The models of a catalogue that fit; where all do, one set for all workers that share it."""
    if fits(catalogue.largest_bytes, room):
        return catalogue.names
    return frozenset(name for name, model in catalogue.models.items() if fits(model.size_bytes, room))
