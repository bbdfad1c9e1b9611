"""round-robin: in the order of names."""

from __future__ import annotations

from placement_cases import Case, idle_workers, worker


def test_turns_go_round_in_the_order_of_names() -> None:
    case = Case("round-robin", [worker(name) for name in "cab"])
    turns = "".join(case.decide().worker_id for _ in range(7))
    assert turns in "abc" * 4


def test_the_first_turn_is_by_chance() -> None:
    assert {Case("round-robin", idle_workers(3), seed).decide().worker_id for seed in range(30)} == {"worker-0", "worker-1", "worker-2"}


def test_a_worker_that_is_gone_loses_its_turn_and_no_other_does() -> None:
    case = Case("round-robin", [worker(name) for name in "abc"])
    while case.decide().worker_id != "a":
        pass
    case.view.stream_lost("b", 1, 0.0)
    assert [case.decide().worker_id for _ in range(4)] == ["c", "a", "c", "a"]


def test_an_excluded_worker_is_passed_over_once() -> None:
    case = Case("round-robin", [worker(name) for name in "abc"])
    while case.decide().worker_id != "a":
        pass
    assert case.decide(excluded=["b"]).worker_id == "c"
    assert [case.decide().worker_id for _ in range(3)] == ["a", "b", "c"]
