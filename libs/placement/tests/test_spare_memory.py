"""Copies into free memory, with time passed in: who pays, when they are bought, and where they go."""

from __future__ import annotations

import math

import pytest
from placement_cases import GB, Case, timings, worker

from roost.cluster.worker_state import WorkerState
from roost.placement.cost import Cost
from roost.placement.demand import WINDOW_S
from roost.placement.plans.plan import Wish
from roost.placement.plans.rents import FADES_IN_S
from roost.placement.plans.spare_memory import CROWDED, PRICE_LOADS, SpareMemory
from roost.placement.policies.policy import Choice, Patience
from roost.placement.request import PlacementRequest

LOAD_S = 0.4
PRICE_S = PRICE_LOADS * LOAD_S
BEGAN, LASTS = 1.0, 1.0 + LOAD_S  # when the first pays, and when the first comes that may buy
LATER = BEGAN + 2 * WINDOW_S
MEASURED = timings(llama_7b=(0.1, LOAD_S), phi_2=(0.1, 1.0))
ROOM = {"memory_capacity_bytes": 20 * GB, "timings": MEASURED, "slots": 2}


def held(node_id: str, *ready: str, **fields: object) -> WorkerState:
    return worker(node_id, *ready, **{"memory_used_bytes": 5 * GB * len(ready)} | ROOM | fields)


class Ground:
    """A plan on a cluster, told that requests will wait."""

    def __init__(self, *states: WorkerState) -> None:
        self.case = Case("expected-wait", states)
        self.plan = SpareMemory(self.case.placer.ground)
        assert self.asked(PRICE_S / 1000, BEGAN) is None

    def asked(self, waits_s: float, now: float = LASTS, *, model: str = "llama-7b", priority: int = 0, copy_to: str = "") -> Wish | None:
        self.case.placer.advance(now)
        choice = Patience(0.1, Cost(waits_s), copy_to)
        return self.plan.asked(PlacementRequest("r", model, priority), choice, 0, now)


def test_a_copy_is_bought_when_the_waits_together_have_reached_the_price_and_not_before() -> None:
    ground = Ground(held("w1", "llama-7b"), held("w2"))
    told = [ground.asked(PRICE_S / 4) for _ in range(4)]
    assert [wish and wish.node_id for wish in told] == [None, None, None, "w2"]
    assert told[3] is not None
    assert told[3].why == f"requests waited {PRICE_S:.1f} s together in {LOAD_S:.1f} s, a load takes {LOAD_S:.1f} s"


def test_a_hundred_that_wait_for_the_load_under_way_and_are_answered_in_a_moment_are_one_load() -> None:
    busy = held("w1", loading={"llama-7b": LOAD_S}, slots=64)
    ground = Ground(busy, held("w2"))
    for _ in range(100):
        ground.case.placer.asked(PlacementRequest("r", "llama-7b"), BEGAN)
        assert ground.asked(PRICE_S, BEGAN) is None


def test_what_is_bought_is_paid_for_anew() -> None:
    ground = Ground(held("w1", "llama-7b"), held("w2"), held("w3"))
    first = ground.asked(PRICE_S)
    assert first is not None
    assert ground.asked(0.9 * PRICE_S) is None
    second = ground.asked(0.2 * PRICE_S, LASTS + LOAD_S)
    assert second is not None
    assert {first.node_id, second.node_id} == {"w2", "w3"}, "nobody is told twice before a report"
    assert ground.asked(PRICE_S, LASTS + 2 * LOAD_S) is None, "all have it, or will"


def test_rent_that_was_paid_long_ago_buys_nothing() -> None:
    ground = Ground(held("w1", "llama-7b"), held("w2"))
    assert ground.asked(0.9 * PRICE_S) is None
    assert ground.asked(0.5 * PRICE_S, LASTS + 2 * FADES_IN_S) is None


@pytest.mark.parametrize(
    ("states", "home"),
    [
        ([held("w2", "phi-2"), held("w3")], "w3"),
        ([held("w2", "phi-2", memory_used_bytes=15 * GB), held("w3", "phi-2")], "w3"),
        ([held("w2", "phi-2", memory_used_bytes=15 * GB)], None),
        ([held("w2", loading={"llama-7b": 1.0})], None),
    ],
    ids=["the least busy by demand", "one with room", "nobody is put out", "nor is a load doubled"],
)
def test_it_goes_where_there_is_room(states: list[WorkerState], home: str | None) -> None:
    ground = Ground(held("w1", "llama-7b"), *states)
    for number in range(20):
        ground.case.placer.asked(PlacementRequest(f"phi-{number}", "phi-2"), 0.05 * number)
    wish = ground.asked(PRICE_S)
    assert (wish and wish.node_id) == home


def test_a_priority_pays_more_and_a_model_that_nobody_has_pays_nothing() -> None:
    ground = Ground(held("w1", "llama-7b"), held("w2"))
    assert ground.asked(9 * PRICE_S, model="phi-2") is None, "its load is what it waits for"
    assert ground.asked(PRICE_S / 10, priority=9) is not None


@pytest.mark.parametrize(("busy_share", "bought"), [(1.5 * CROWDED, 1), (0.5 * CROWDED, 0)])
def test_beside_a_first_load_a_copy_is_bought_only_if_the_slots_there_will_be_crowded(busy_share: float, bought: int) -> None:
    ground = Ground(held("w1", loading={"llama-7b": LOAD_S}), held("w2"))
    placer = ground.case.placer
    joins = PlacementRequest("r", "llama-7b")
    for _ in range(math.ceil(busy_share * 2 / 0.1)):  # in the first second, on two slots, for 0.1 s each
        placer.asked(joins, LASTS)
    placer.advance(LASTS)
    candidate = placer.ground.fleet.get("w1")
    assert candidate is not None
    assert (ground.plan.asked(joins, Choice(candidate, Cost(0.0, load_s=LOAD_S)), 0, LASTS) is not None) == bought


def test_a_worker_that_is_told_to_load_it_anyway_is_not_told_again() -> None:
    ground = Ground(held("w1", "llama-7b"), held("w2"))
    assert ground.asked(PRICE_S, copy_to="w2") is None


def test_who_waits_behind_others_in_the_decider_pays_for_that_too() -> None:
    ground = Ground(held("w1", "llama-7b"), held("w2"))
    ground.case.placer.advance(LASTS)
    candidate = ground.case.placer.ground.fleet.get("w1")
    assert candidate is not None
    backlog = round(PRICE_S / (0.1 / 2)) + 1  # each of them takes one of two slots for 0.1 s
    assert ground.plan.asked(PlacementRequest("r", "llama-7b"), Choice(candidate, Cost(0.0)), backlog, LASTS) is not None


@pytest.mark.parametrize(("phi_asked", "at", "bought"), [(0, LASTS, 0), (0, LATER, 1), (3, LATER, 0)])
def test_memory_that_models_without_a_home_will_want_is_not_to_spare(phi_asked: int, at: float, bought: int) -> None:
    """In the first seconds the other model of the catalogue may be asked for next; later only what is asked for counts."""
    ground = Ground(held("w1", "llama-7b", memory_used_bytes=20 * GB), held("w2", memory_capacity_bytes=16 * GB))
    ground.case.placer.asked(PlacementRequest("r", "llama-7b"), BEGAN)
    for number in range(phi_asked):
        ground.case.placer.asked(PlacementRequest(f"phi-{number}", "phi-2"), at)
    assert (ground.asked(PRICE_S, at) is not None) == bought
