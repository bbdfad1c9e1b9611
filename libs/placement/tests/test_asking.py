"""Asking a policy is a question, and taking its choice an order: what that means for each of them, and for who may write what."""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from placement_cases import UNEQUAL, Case, idle_workers, timings, worker

import roost.placement.candidate as room
from roost.placement.candidate import Candidate
from roost.placement.placer import Placer
from roost.placement.policies.policy import Choice, Waiting
from roost.placement.registry import policy_names
from roost.placement.request import PlacementRequest

ROOM = Path(room.__file__).parent
ASKED_OFTEN = 20


class Chance(random.Random):
    """Draws that can be had again."""

    def again(self) -> None:
        self.seed(1)


@pytest.mark.parametrize("policy", policy_names())
@pytest.mark.parametrize("plane", ["central", "gossip"])
@pytest.mark.parametrize("waiting", [None, Waiting(3, 0.5, 4.0, can_tell=True)])
def test_asking_changes_nothing_however_often(policy: str, plane: str, waiting: Waiting | None) -> None:
    """Who is asked over and over takes the same turns as who is asked once."""

    def turns(times: int) -> list[str]:
        chance = Chance()
        case = Case(policy, UNEQUAL)
        placer = Placer(case.view, policy, rng=chance, decider="d", is_view_shared=plane == "gossip")
        decided = []
        for number in range(12):
            model = "phi-2" if number % 3 else "llama-7b"
            for _ in range(times):
                chance.again()
                placer._policy.choose(PlacementRequest("r", model), waiting)
            chance.again()
            decided.append(placer.decide(PlacementRequest("r", model), 0.1 * number).worker_id)
        return decided

    assert turns(0) == turns(ASKED_OFTEN)


@pytest.mark.parametrize("policy", policy_names())
def test_the_chosen_one_is_among_those_that_were_considered_at_its_cost(policy: str) -> None:
    case = Case(policy, idle_workers(5, "llama-7b"))
    choice = case.placer._policy.choose(PlacementRequest("r", "llama-7b"))
    assert isinstance(choice, Choice)
    assert (choice.cost is None) is (not choice.considered)
    assert choice.cost is None or choice.considered[choice.candidate][0] == choice.cost


def test_on_a_sidecar_round_robin_gives_each_worker_exactly_its_turn() -> None:
    case = Case("round-robin", idle_workers(4, "llama-7b"))
    sidecar = Placer(case.view, "round-robin", rng=random.Random(1), decider="g", is_view_shared=True)
    turns = [sidecar.decide(PlacementRequest("r", "llama-7b"), float(number)).worker_id for number in range(24)]
    assert turns == turns[:4] * 6
    assert Counter(turns) == dict.fromkeys(turns[:4], 6)


def test_a_request_that_is_refused_takes_nobodys_turn() -> None:
    measured = timings(llama_7b=(2.0, 0.0))
    workers = [worker(name, "llama-7b", queue_depth=50 * (name == "b"), busy_slots=1, timings=measured) for name in "abc"]
    case = Case("round-robin", workers)
    while case.decide().worker_id != "a":
        pass
    with pytest.raises(Exception, match="may wait"):
        case.decide(deadline_s=0.001)
    assert case.decide().worker_id == "b"


def test_a_candidate_is_written_by_one_module() -> None:
    fields = set(Candidate.__slots__)
    writers = {(file.name, name) for file in ROOM.rglob("*.py") for name in _written(ast.parse(file.read_text())) if name in fields}
    assert {file for file, _ in writers} == {"candidate.py"}, writers


def _written(module: ast.Module) -> Iterator[str]:
    """Attributes that are assigned to anything but `self`, and to that in `Candidate`."""
    own = {id(each) for node in ast.walk(module) if isinstance(node, ast.ClassDef) and node.name == "Candidate" for each in ast.walk(node)}
    for each in ast.walk(module):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            is_self = isinstance(each.value, ast.Name) and each.value.id == "self"
            if not is_self or id(each) in own:
                yield each.attr
