"""Asking where a request would go: the true answer, and nothing that comes of it."""

from __future__ import annotations

import random

import pytest
from placement_cases import MODELS, UNEQUAL, Case, idle_workers, timings, worker

from roost.cluster.errors import DeadlineImpossible, ModelTooLarge, NoWorkers, UnknownModel
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import WorkerState
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.facts import Reported
from roost.placement.records import DecisionRecords
from roost.placement.registry import policy_names
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms


class Chance(random.Random):
    """Always the same draw."""

    def random(self) -> float:
        return 0.5

    def randrange(self, stop: int, /) -> int:  # type: ignore[override]
        return stop // 2


def decider_of(policy: str) -> Decider:
    terms = Terms(decider="d", policy=policy)
    decider = Decider(ClusterView(catalogue=MODELS), terms, rng=Chance(5), records=DecisionRecords())
    for state in UNEQUAL:
        decider.hear(Reported(state, is_streamed=True), 0.0)
    return decider


def asked(number: int) -> PlacementRequest:
    return PlacementRequest(f"r{number}", "phi-2" if number % 3 else "llama-7b", priority=number % 10)


@pytest.mark.parametrize("policy", policy_names())
def test_who_is_asked_over_and_over_decides_as_if_nobody_had_asked(policy: str) -> None:
    def decisions(previews: int) -> list[object]:
        decider = decider_of(policy)
        made: list[object] = []
        for number in range(24):
            for _ in range(previews):
                decider.preview(asked(number + 1), 0.1 * number)
            made.append(decider.ask(asked(number), 0.1 * number))
        return [*made, decider.snapshot().placer, decider.placer.statistics.total_requests, decider.effects()]

    assert decisions(0) == decisions(3)


@pytest.mark.parametrize("policy", policy_names())
def test_a_preview_tells_what_is_decided_next(policy: str) -> None:
    decider = decider_of(policy)
    for number in range(12):
        foretold, made = decider.preview(asked(number), 1.0), decider.ask(asked(number), 1.0)
        assert isinstance(made, Decision)
        assert (foretold.worker_id, foretold.action, foretold.estimated_wait_s) == (made.worker_id, made.action, made.estimated_wait_s)
        assert (foretold.decision_id, foretold.request_id, foretold.policy) == ("", f"r{number}", policy)


def test_nothing_of_a_preview_is_left_to_be_explained() -> None:
    decider = decider_of("expected-wait")
    decider.preview(asked(1), 1.0)
    with pytest.raises(UnknownModel):
        decider.preview(PlacementRequest("r1", "lama-7b"), 1.0)
    assert decider.records is not None
    assert decider.records.of("r1") == ()


@pytest.mark.parametrize(
    ("workers", "request_", "refusal"),
    [
        ([worker("w")], PlacementRequest("r", "lama-7b"), UnknownModel),
        ([], PlacementRequest("r", "llama-7b"), NoWorkers),
        ([worker("w", memory_capacity_bytes=1)], PlacementRequest("r", "llama-7b"), ModelTooLarge),
        (
            [worker("w", loading={"llama-7b": 9.0}, timings=timings(llama_7b=(1.0, 9.0)))],
            PlacementRequest("r", "llama-7b", deadline_s=0.5),
            DeadlineImpossible,
        ),
    ],
)
def test_a_preview_is_refused_as_the_request_would_be(
    workers: list[WorkerState], request_: PlacementRequest, refusal: type[Exception]
) -> None:
    placer = Case("expected-wait", workers).placer
    with pytest.raises(refusal):
        placer.preview(request_, 0.0)
    with pytest.raises(refusal):
        placer.decide(request_, 0.0)


def test_a_preview_reserves_no_place() -> None:
    case = Case("least-loaded", idle_workers(2, "llama-7b"))
    case.placer.preview(PlacementRequest("r", "llama-7b"), 0.0)
    assert (case.placer.reservations, case.placer.statistics.total_requests) == (0, 0)
