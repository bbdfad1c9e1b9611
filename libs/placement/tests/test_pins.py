"""Pinned memory is not there for others: who can take a model where something is pinned, and what is said where nobody can."""

from __future__ import annotations

import pytest
from placement_cases import GB, MODELS, Case, worker

from roost.cluster.errors import ModelTooLarge, NoWorkers
from roost.cluster.worker_state import ModelStatus, Phase, WorkerState
from roost.placement.registry import policy_names

every_policy = pytest.mark.parametrize("policy", policy_names())


def pinning(node_id: str, *, pinned: bool = True, sequence: int = 1, capacity: int = 17 * GB, **fields: object) -> WorkerState:
    """A worker that has phi-2 (5 GB) and has room for llama-7b (13 GB) only without it."""
    models = {"phi-2": ModelStatus("phi-2", Phase.READY, 5 * GB, is_pinned=pinned)}
    return worker(node_id, **{"models": models, "sequence": sequence, "memory_capacity_bytes": capacity} | fields)


@every_policy
def test_a_worker_whose_pins_leave_too_little_memory_is_never_chosen(policy: str) -> None:
    case = Case(policy, [pinning("pinning"), pinning("simple", epoch=0, sequence=0, catalogue=None), worker("good", queue_depth=50)])
    assert set(case.burst(20)) == {"good"}
    assert set(case.burst(20, "phi-2", excluded=["good", "simple"])) == {"pinning"}, "what is pinned is there"


@every_policy
def test_a_worker_whose_pins_leave_enough_is_chosen(policy: str) -> None:
    assert set(Case(policy, [pinning("w", capacity=18 * GB)]).burst(3)) == {"w"}


@every_policy
def test_what_is_resident_already_can_be_asked_for_whatever_is_pinned(policy: str) -> None:
    models = {
        "phi-2": ModelStatus("phi-2", Phase.READY, 5 * GB, is_pinned=True),
        "llama-7b": ModelStatus("llama-7b", Phase.LOADING, 0, ready_in_s=1.0),
    }
    assert Case(policy, [worker("w", models=models, memory_capacity_bytes=17 * GB)]).decide().worker_id == "w"


@every_policy
def test_pins_may_change_with_each_report(policy: str) -> None:
    case = Case(policy, [pinning("w", pinned=False)])
    assert case.decide().worker_id == "w"
    case.view.apply(pinning("w", sequence=2, catalogue=None), 0.1, is_streamed=True)
    with pytest.raises(NoWorkers):
        case.decide()
    case.view.apply(pinning("w", sequence=3, pinned=False, catalogue=None), 0.2, is_streamed=True)
    assert case.decide().worker_id == "w"


def test_a_refusal_says_that_memory_is_pinned() -> None:
    case = Case("weighted-score", [pinning("a"), pinning("b"), worker("small", memory_capacity_bytes=GB), worker("without", catalogue=())])
    with pytest.raises(NoWorkers) as refused:
        case.decide()
    assert str(refused.value) == (
        "4 workers known: 1 with too little memory for llama-7b, 2 with too much memory pinned to load llama-7b, "
        "1 without llama-7b in its catalogue"
    )


def test_a_model_that_a_worker_could_hold_without_its_pins_is_not_called_too_large() -> None:
    small = worker("small", memory_capacity_bytes=GB)
    for others in ([pinning("a")], [pinning("draining", is_draining=True)]):
        with pytest.raises(NoWorkers):
            Case("weighted-score", [small, *others]).decide()
    with pytest.raises(ModelTooLarge):
        Case("weighted-score", [small, pinning("b", capacity=6 * GB)]).decide()


def test_everything_pinned_leaves_room_for_nothing_but_what_takes_none() -> None:
    case = Case("weighted-score", [pinning("w", capacity=5 * GB, catalogue=MODELS)])
    with pytest.raises(ModelTooLarge):
        case.decide()
    assert case.decide("phi-2").worker_id == "w"
