"""The least expected time to the first token, and what others lose counted in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_cases import GB, Case, idle_workers, timings, worker

from roost.cluster.worker_state import ModelStatus, ModelTiming, Phase, WorkerState
from roost.placement.candidate import Candidate
from roost.placement.decision import Action
from roost.placement.policies.expected_wait import ExpectedWait
from roost.placement.policies.policy import Waiting
from roost.placement.request import PlacementRequest

SERVE, COLD_START = Action.SERVE, Action.COLD_START
MEASURED = timings(llama_7b=(0.1, 2.0), phi_2=(0.1, 1.0))


def states_of(*cases: tuple[str, str, dict[str, object]]) -> list[WorkerState]:
    return [worker(name, *ready.split(), **({"timings": MEASURED} | fields)) for name, ready, fields in cases]


@pytest.mark.parametrize(
    ("workers", "chosen", "action"),
    [
        pytest.param([("a", "llama-7b", {}), ("b", "", {})], "a", SERVE, id="a holder wins"),
        pytest.param(
            [("a", "llama-7b", {}), ("b", "", {"timings": timings(llama_7b=(0.1, 1e-6))})],
            "a",
            SERVE,
            id="an idle holder wins though a load costs nothing",
        ),
        pytest.param(
            [("a", "llama-7b", {"queue_depth": 10, "busy_slots": 1}), ("b", "", {})], "a", SERVE, id="a second is less than a load"
        ),
        pytest.param(
            [("a", "llama-7b", {"queue_depth": 30, "busy_slots": 1}), ("b", "", {})], "b", COLD_START, id="three seconds are more"
        ),
        pytest.param(
            [("a", "llama-7b", {"timings": timings(llama_7b=(0.2, 2.0))}), ("b", "llama-7b", {})], "b", SERVE, id="of idle ones the faster"
        ),
        pytest.param(
            [
                ("a", "llama-7b", {"queue_depth": 4, "busy_slots": 1, "timings": timings(llama_7b=(0.1, 2.0))}),
                ("b", "llama-7b", {"queue_depth": 3, "busy_slots": 1, "timings": timings(llama_7b=(0.4, 2.0))}),
            ],
            "a",
            SERVE,
            id="a shorter queue of a slower worker takes longer",
        ),
        pytest.param(
            [("a", "", {}), ("b", "", {"timings": timings(llama_7b=(0.1, 0.5))})], "b", COLD_START, id="the one that loads it faster"
        ),
        pytest.param(
            [("a", "", {"loading": {"llama-7b": 1.0}, "queue_depth": 5}), ("b", "", {})], "a", COLD_START, id="a load under way is joined"
        ),
        pytest.param(
            [("a", "", {"loading": {"llama-7b": 1.0}, "queue_depth": 35}), ("b", "", {})],
            "b",
            COLD_START,
            id="until its queue outlasts another load",
        ),
    ],
)
def test_the_least_expected_wait_wins(workers: list[tuple[str, str, dict[str, object]]], chosen: str, action: Action) -> None:
    decision = Case("expected-wait", states_of(*workers)).decide()
    assert (decision.worker_id, decision.action) == (chosen, action)


def full(node_id: str, *ready: str) -> WorkerState:
    """A worker whose memory is full of these models."""
    size = 13 * GB // len(ready)
    models = {name: ModelStatus(name, Phase.READY, size) for name in ready}
    fields = {"models": models, "timings": MEASURED, "memory_capacity_bytes": 13 * GB, "memory_used_bytes": 13 * GB, "slots": 8}
    return worker(node_id, **fields)


def test_a_model_goes_where_what_must_leave_is_asked_for_least() -> None:
    case = Case("expected-wait", [full("busy", "phi-2"), full("quiet", "other")])
    for number in range(20):
        case.decide("phi-2", now=0.1 * number)
    decision = case.decide(now=2.0)
    assert (decision.worker_id, decision.action) == ("quiet", COLD_START)


def test_the_parts_of_a_cost_are_told_apart() -> None:
    case = Case("expected-wait", [full("w", "phi-2")])
    for number in range(10):
        case.decide("phi-2", now=0.1 * number)
    placer = case.placer
    placer.asked(PlacementRequest("r", "llama-7b"), 2.0)
    candidate = placer._fleet.get("w")
    assert candidate is not None
    cost, _ = placer._costs.of(candidate, PlacementRequest("r", "llama-7b"))
    rate = placer._estimates.demand.rate("phi-2", 2.0)
    asked_for = placer._estimates.demand.rate("llama-7b", 2.0)
    busy = rate * 0.1 / 8
    assert cost.load_s == 2.0
    assert cost.eviction_s == pytest.approx(rate * 1.0 * 1.0)
    assert cost.first_token_s == pytest.approx(0.005)
    assert cost.crowding_s == pytest.approx(asked_for * 2.0 * 0.1 / 8 * busy / (1.0 - busy)), "those who ask within a load of two seconds"
    assert cost.total_s == pytest.approx(cost.own_s + cost.eviction_s + cost.crowding_s)


def test_a_burst_for_an_absent_model_is_one_load() -> None:
    states = [worker(f"worker-{number}", timings=timings(llama_7b=(0.001, 2.0)), slots=2) for number in range(10)]
    assert len(Case("expected-wait", states).burst(1000)) == 1


def test_a_burst_makes_copies_when_its_queue_would_outlast_a_load() -> None:
    states = [worker(f"worker-{number}", timings=timings(llama_7b=(0.1, 2.0)), slots=2) for number in range(10)]
    counts = Case("expected-wait", states).burst(200)
    assert len(counts) in range(3, 7), counts
    assert max(counts.values()) < 100, counts


def test_a_copy_too_many_is_the_first_to_go() -> None:
    """A second copy that nobody needs costs nothing to put out, though its model is asked for more than any other."""
    states = [full("a", "phi-2"), full("b", "phi-2"), full("c", "other")]
    case = Case("expected-wait", states)
    for number in range(30):
        case.decide("phi-2" if number % 3 else "other", now=0.2 * number)
    assert case.decide(now=6.0).worker_id in {"a", "b"}


@st.composite
def clusters(draw: st.DrawFn) -> list[WorkerState]:
    states = []
    for number in range(draw(st.integers(1, 12))):
        ready = draw(st.sets(st.sampled_from(["llama-7b", "phi-2"])))
        slots = draw(st.integers(1, 4))
        busy = draw(st.integers(0, slots))
        service_s, load_s = draw(st.sampled_from([0.02, 0.3, 2.0])), draw(st.sampled_from([0.5, 5.0]))
        parallel = draw(st.sampled_from([0, 0, 1]))
        states.append(
            worker(
                f"w{number}",
                models={name: ModelStatus(name, Phase.READY, 5 * GB, in_flight=min(1, busy), max_parallel=parallel) for name in ready},
                slots=slots,
                busy_slots=busy,
                queue_depth=draw(st.integers(0, 9)),
                timings={name: ModelTiming(service_s, load_s) for name in ("llama-7b", "phi-2")},
            )
        )
    return states


@settings(max_examples=150, deadline=None, derandomize=True)
@given(clusters(), st.integers(1, 40), st.randoms(use_true_random=False))
def test_of_those_that_have_the_model_ready_the_choice_is_what_a_scan_would_find(
    states: list[WorkerState], decisions: int, rng: random.Random
) -> None:
    case = Case("expected-wait", states)
    policy, costs = case.placer._policy, case.placer._costs
    assert isinstance(policy, ExpectedWait)
    for _ in range(decisions):
        model = rng.choice(["llama-7b", "phi-2"])
        request = PlacementRequest("r", model)
        holders = case.placer._fleet.ready_on(model)
        if holders:
            found = policy._best_ready(request, {})
            assert found is not None
            cheapest = min(costs.of(each, request)[0].own_s for each in holders.values())
            assert found[1].own_s == pytest.approx(cheapest, abs=1e-4)  # the load decides between equals, at a microsecond a request
        case.decide(model)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(clusters(), st.integers(1, 30), st.integers(0, 9))
def test_in_a_small_cluster_the_choice_is_what_a_scan_over_all_workers_would_find(
    states: list[WorkerState], decisions: int, priority: int
) -> None:
    """At priority 0 and where every worker has one of few places in the order: exact. At higher priorities a holder may be missed."""
    case = Case("expected-wait", states)
    policy, costs, fleet = case.placer._policy, case.placer._costs, case.placer._fleet
    assert isinstance(policy, ExpectedWait)
    for _ in range(decisions):
        request = PlacementRequest("r", "llama-7b", priority)
        found = policy._best(request, {}, Waiting())
        assert found is not None
        everyone = [each for each in map(fleet.get, case.view.entries) if each is not None]
        with_it = [each for each in everyone if _has(each)]
        if with_it and priority == 0:
            best = min(costs.of(each, request)[0].own_s for each in with_it)
            assert found[1].own_s <= best + max(0.0, costs.of(found[0], request)[0].load_s) + 1e-4
        case.decide(priority=priority)


def _has(candidate: Candidate) -> bool:
    return "llama-7b" in candidate.state.models or "llama-7b" in candidate.reserved.by_model


def test_a_higher_priority_sees_a_shorter_queue() -> None:
    states = [
        worker("a", "llama-7b", queue_depth=9, busy_slots=1, queue_by_priority=(9, *[0] * 9), timings=MEASURED),
        worker("b", "llama-7b", queue_depth=5, busy_slots=1, queue_by_priority=(0, *[0] * 8, 5), timings=MEASURED),
    ]
    case = Case("expected-wait", states)
    assert case.decide(priority=9).worker_id == "a"
    assert case.decide(priority=0).worker_id == "b"


def test_a_model_goes_where_its_requests_meet_fewest_others() -> None:
    """Both have room for it and are idle at the moment; one has a model that keeps it busy."""
    states = [worker(name, model, timings=MEASURED, slots=8) for name, model in (("a", "phi-2"), ("b", "other"))]
    for seed in range(5):
        case = Case("expected-wait", states, seed)
        for number in range(5):
            case.decide("phi-2", now=0.01 * number)
        assert case.decide(now=0.1).worker_id == "b"


def test_idle_workers_share_the_first_loads() -> None:
    case = Case("expected-wait", idle_workers(4))
    assert len({case.decide("llama-7b").worker_id, case.decide("phi-2").worker_id}) == 2
