"""A report that tells what differs from the one before makes the same of a decider as one that has to be compared."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.errors import RoostError
from roost.cluster.view import ClusterView
from roost.cluster.worker_entry import room_bytes
from roost.cluster.worker_state import CatalogueModel, Changes, ModelStatus, ModelTiming, Phase, WorkerState
from roost.placement.decision import Decision
from roost.placement.placer import Placer
from roost.placement.registry import policy_names
from roost.placement.request import PlacementRequest

MODELS = tuple("abcdef")
CATALOGUE = tuple(CatalogueModel(name, "simulated", 10) for name in MODELS)


def status(name: str, rng: random.Random) -> ModelStatus:
    is_ready, size_bytes = rng.random() < 0.7, rng.choice([10, 10, 20])
    return ModelStatus(
        name, Phase.READY if is_ready else Phase.LOADING, size_bytes, rng.randrange(3), rng.randrange(3), 0.0, rng.random() < 0.2
    )


def next_report(before: WorkerState, rng: random.Random) -> WorkerState:
    """Some models came, went or changed, and some times were measured; more names may be told of than that."""
    models, timings = dict(before.models), dict(before.timings)
    named = tuple(rng.sample(MODELS, rng.randrange(4)))
    for name in named:
        if rng.random() < 0.3:
            models.pop(name, None)
        elif rng.random() < 0.8:
            models[name] = status(name, rng)
    measured = tuple(rng.sample(MODELS, rng.randrange(3)))
    for name in measured:
        timings[name] = ModelTiming(rng.choice([0.5, 1.0]), rng.choice([0.0, 2.0]))
    pinned = sum(each.size_bytes for each in models.values() if each.is_pinned)
    return replace(
        before,
        models=models,
        timings=timings,
        sequence=before.sequence + 1,
        queue_depth=rng.randrange(4),
        busy_slots=rng.randrange(3),
        changes=Changes(before.sequence, named, measured, models, timings, pinned),
        catalogue=None,
    )


def first_report(node_id: str) -> WorkerState:
    return WorkerState(node_id, slots=2, epoch=1, sequence=1, memory_capacity_bytes=100, catalogue=CATALOGUE)


def decided(placer: Placer, request: PlacementRequest, now: float) -> Decision | str:
    try:
        return placer.decide(request, now)
    except RoostError as error:
        return str(error)


@pytest.mark.parametrize("policy", policy_names())
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_it_decides_the_same(policy: str, seed: int) -> None:
    rng = random.Random(seed)
    told, compared = ClusterView(), ClusterView()
    placers = [Placer(view, policy, rng=random.Random(seed), decider="d") for view in (told, compared)]
    states = {name: first_report(name) for name in ("w-1", "w-2", "w-3")}
    for state in states.values():
        told.apply(state, 0.0, is_streamed=True)
        compared.apply(state, 0.0, is_streamed=True)
    for step in range(30):
        now, name = float(step), rng.choice(list(states))
        states[name] = state = next_report(states[name], rng)
        if rng.random() < 0.2:
            continue  # a report that was lost: the next one does not follow what the decider has
        told.apply(state, now, is_streamed=True)
        compared.apply(replace(state, changes=None), now, is_streamed=True)
        assert told.version == compared.version
        assert told.catalogue() == compared.catalogue()
        assert room_bytes(state) == room_bytes(replace(state, changes=None))
        request = PlacementRequest(f"r-{step}", rng.choice(MODELS), rng.choice([0, 5]))
        assert decided(placers[0], request, now) == decided(placers[1], request, now)


def test_changes_are_believed_of_the_report_that_they_follow_and_of_no_other() -> None:
    before = first_report("w")
    after = next_report(before, random.Random(1))
    assert after.changes_from(before) is after.changes
    assert after.changes_from(replace(before, sequence=9)) is None
    assert after.changes_from(replace(before, epoch=2)) is None
    assert replace(after, models=dict(after.models)).changes_from(before) is None, "other models than those they are told of"
    assert replace(after, timings=dict(after.timings)).changes_from(before) is None
