"""What every policy must hold, whatever it prefers."""

from __future__ import annotations

import random

import pytest
from placement_cases import GB, Case, idle_workers, worker

from roost.cluster.errors import InvalidField, NoWorkers
from roost.cluster.view import ClusterView
from roost.placement.placer import Placer
from roost.placement.registry import policy_names

every_policy = pytest.mark.parametrize("policy", policy_names())


def test_the_policies_have_the_documented_names() -> None:
    named = "expected-wait weighted-score affinity random round-robin least-loaded power-of-two consistent-hash"
    assert policy_names() == tuple(named.split())


def test_an_unknown_policy_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InvalidField, match="policy: 'best' is not one of expected-wait, weighted-score"):
        Placer(ClusterView(), "best", rng=random.Random(0), decider="d")


@every_policy
def test_workers_that_may_not_take_the_request_are_never_chosen(policy: str) -> None:
    workers = [
        worker("excluded", "llama-7b"),
        worker("suspect", "llama-7b"),
        worker("draining", "llama-7b", is_draining=True),
        worker("without-it", "phi-2", catalogue=()),
        worker("too-small", memory_capacity_bytes=12 * GB),
        worker("dead", "llama-7b", epoch=0, sequence=0),
        worker("good", queue_depth=50, gpu_utilization=1.0),
    ]
    case = Case(policy, workers)
    case.view.stream_lost("suspect", 1, 0.0)
    for state in workers:
        if state.node_id not in {"dead", "suspect"}:
            case.view.apply(worker(state.node_id, *state.ready_models, **_renewed(state)), 9.0, is_streamed=True)
    case.view.advance(10.5)
    for _ in range(50):
        assert case.decide(now=10.5, excluded=["excluded"]).worker_id == "good"


def _renewed(state: object) -> dict[str, object]:
    names = ("is_draining", "catalogue", "memory_capacity_bytes", "queue_depth", "gpu_utilization")
    return {name: getattr(state, name) for name in names} | {"sequence": 2}


@every_policy
def test_a_worker_that_has_the_model_ready_can_take_it_although_its_catalogue_does_not_list_it(policy: str) -> None:
    assert Case(policy, [worker("w", "llama-7b", catalogue=())]).decide().worker_id == "w"


@every_policy
def test_a_simple_reporter_can_take_any_known_model(policy: str) -> None:
    assert Case(policy, [worker("w", epoch=0, sequence=0, catalogue=None)]).decide().worker_id == "w"


@every_policy
def test_nobody_to_choose_is_refused(policy: str) -> None:
    with pytest.raises(NoWorkers, match="no worker is known yet"):
        Case(policy, []).decide()


@every_policy
def test_the_only_worker_is_excluded(policy: str) -> None:
    case = Case(policy, idle_workers(1, "llama-7b"))
    with pytest.raises(NoWorkers, match="1 worker known: 1 excluded"):
        case.decide(excluded=["worker-0"])
    assert case.decide().worker_id == "worker-0", "an exclusion is for one request"


@every_policy
def test_the_same_seed_makes_the_same_choices(policy: str) -> None:
    def choices() -> list[str]:
        case = Case(policy, idle_workers(9, "llama-7b"), seed=11)
        return [case.decide(model).worker_id for model in ("llama-7b", "phi-2") * 20]

    assert choices() == choices()


@every_policy
def test_a_worker_that_left_and_came_back_is_chosen_again(policy: str) -> None:
    case = Case(policy, idle_workers(1, "llama-7b"))
    case.view.stream_lost("worker-0", 1, 1.0)
    with pytest.raises(NoWorkers, match="1 worker known: 1 suspect"):
        case.decide(now=1.0)
    case.view.apply(worker("worker-0", "llama-7b", sequence=2), 2.0, is_streamed=True)
    assert case.decide(now=2.0).worker_id == "worker-0"


@every_policy
def test_most_of_many_workers_excluded_leaves_the_others(policy: str) -> None:
    case = Case(policy, idle_workers(60, "llama-7b"))
    excluded = [f"worker-{number}" for number in range(58)]
    assert set(case.burst(20, excluded=excluded)) == {"worker-58", "worker-59"}


SPREAD = {"weighted-score": (10, 10), "round-robin": (10, 10), "least-loaded": (10, 10), "power-of-two": (6, 13), "random": (1, 25)}


@pytest.mark.parametrize("policy", SPREAD)
@pytest.mark.parametrize("ready", [("llama-7b",), ()], ids=["ready everywhere", "absent"])
@pytest.mark.parametrize("seed", range(5))
def test_a_burst_between_two_reports_spreads(policy: str, ready: tuple[str, ...], seed: int) -> None:
    fewest, most = SPREAD[policy]
    counts = Case(policy, idle_workers(10, *ready), seed).burst(100)
    assert len(counts) == 10
    assert fewest <= min(counts.values())
    assert max(counts.values()) <= most


@pytest.mark.parametrize("policy", ["weighted-score", "least-loaded", "random", "power-of-two"])
def test_equals_are_equally_likely(policy: str) -> None:
    case = Case(policy, idle_workers(4, "llama-7b"))
    first = [0, 0, 0, 0]
    for now in range(2_000):  # 10 s apart, so that every reservation is gone
        first[int(case.decide(now=10.0 * now).worker_id[-1])] += 1
    assert all(abs(count - 500) < 100 for count in first), first  # five standard deviations
