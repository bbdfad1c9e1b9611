"""Late binding: who waits, who is bound when, and that nobody is lost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_cases import GB, Case, timings, worker

from roost.cluster.errors import DeadlineImpossible, NoCapacity, RoostError
from roost.cluster.worker_state import CacheResult, DecisionOutcome, ModelStatus, Phase, WorkerState
from roost.placement.decision import Action, Decision
from roost.placement.dispatcher import Dispatcher, Ticket
from roost.placement.request import PlacementRequest

MEASURED = timings(llama_7b=(0.1, 2.0), phi_2=(0.1, 1.0))


def holding(node_id: str, model: str, *, sequence: int = 1, **fields: object) -> WorkerState:
    """A worker whose memory is full of one model."""
    models = {model: ModelStatus(model, Phase.READY, 13 * GB)}
    memory = {"memory_capacity_bytes": 13 * GB, "memory_used_bytes": 13 * GB}
    return worker(node_id, **{"models": models, "timings": MEASURED, "sequence": sequence} | memory | fields)


class Desk:
    """A dispatcher over a small cluster; `decided` is everyone who was bound, in order."""

    def __init__(self, *workers: WorkerState, capacity: int = 1000) -> None:
        self.case = Case("expected-wait", workers)
        self.dispatcher = Dispatcher(self.case.placer, capacity=capacity)
        self.decided: list[tuple[str, Decision | RoostError]] = []
        self.tickets: dict[str, Ticket] = {}

    def ask(self, request_id: str, model: str = "llama-7b", *, now: float = 0.0, priority: int = 0, deadline_s: float = 0.0) -> bool:
        """True if it was bound at once."""
        request = PlacementRequest(request_id, model, priority, deadline_s=deadline_s, may_queue=True)
        decision = self.dispatcher.place(request, now)
        if decision is None:
            self.tickets[request_id] = self.dispatcher.wait(request, now)
        else:
            self.decided.append((request_id, decision))
        return decision is not None

    def bind(self, now: float, changed: str = "") -> list[str]:
        bound = self.dispatcher.bind(now, changed)
        self.decided += [(each.ticket.request.request_id, each.result) for each in bound]
        return [each.ticket.request.request_id for each in bound]

    def report(self, state: WorkerState, now: float) -> list[str]:
        """Apply a report that has seen all that was sent there, and bind."""
        self.case.view.apply(state, now, is_streamed=True)
        self.case.placer.settle(state.node_id, state.outcomes, now)
        return self.bind(now, state.node_id)

    def outcomes(self, node_id: str, result: CacheResult = CacheResult.HIT) -> tuple[DecisionOutcome, ...]:
        sent = [decision for _, decision in self.decided if isinstance(decision, Decision) and decision.worker_id == node_id]
        return tuple(DecisionOutcome(decision.decision_id, result) for decision in sent)

    def workers(self) -> Mapping[str, int]:
        return Counter(decision.worker_id for _, decision in self.decided if isinstance(decision, Decision))


def test_where_there_is_room_nobody_waits() -> None:
    desk = Desk(worker("w", "llama-7b", timings=MEASURED, slots=4))
    assert all(desk.ask(f"r{number}") for number in range(4))


def test_beyond_what_a_worker_starts_soon_requests_wait_here_and_are_bound_when_slots_free() -> None:
    desk = Desk(holding("w", "llama-7b", slots=2))
    bound = [desk.ask(f"r{number}") for number in range(10)]
    assert sum(bound) == 4, "two run, and two would start within 0.1 s"
    idle = holding("w", "llama-7b", slots=2, sequence=2, outcomes=desk.outcomes("w"))
    assert desk.report(idle, 0.3) == ["r4", "r5", "r6", "r7"]
    assert len(desk.dispatcher) == 2


def test_a_request_with_a_higher_priority_is_bound_before_those_that_wait() -> None:
    desk = Desk(holding("w", "llama-7b", slots=2))
    for number in range(10):
        desk.ask(f"low-{number}")
    assert desk.ask("high", priority=9, now=0.01), "only its own kind stands before it"


@settings(max_examples=50, derandomize=True, deadline=None)
@given(priorities=st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_who_waits_is_bound_by_priority_and_then_by_arrival(priorities: list[int]) -> None:
    desk = Desk(holding("w", "llama-7b", slots=1))
    while desk.ask("fills"):
        pass
    waiting = [
        name for name, its in ((f"{its}:{number}", its) for number, its in enumerate(priorities)) if not desk.ask(name, priority=its)
    ]
    bound: list[str] = []
    for number in range(1, 100):
        bound += desk.report(holding("w", "llama-7b", slots=1, sequence=1 + number, outcomes=desk.outcomes("w")), 0.001 * number)
    assert [name for name in bound if name != "fills"] == sorted(waiting, key=lambda name: -int(name[0]))
    assert len(desk.dispatcher) == 0


def test_the_lowest_priority_is_bound_within_the_aging_bound_though_the_highest_keeps_coming() -> None:
    aging_s = 0.5
    desk = Desk(holding("w", "llama-7b", slots=1))
    desk.dispatcher = Dispatcher(desk.case.placer, capacity=1000, aging_s=aging_s)
    while desk.ask("low"):
        pass
    now, number, bound = 0.0, 0, list[str]()
    while "low" not in bound:
        now, number = now + 0.1, number + 1  # one slot is freed every 0.1 s, and as many come with the highest priority
        desk.ask(f"high-{number}", priority=9, now=now)
        bound += desk.report(holding("w", "llama-7b", slots=1, sequence=1 + number, outcomes=desk.outcomes("w")), now)
    assert now <= 9 * aging_s + 0.3


def test_a_load_that_would_put_out_a_model_in_demand_waits_until_it_is_worth_it() -> None:
    desk = Desk(holding("w", "phi-2", slots=8))
    for number in range(50):
        assert desk.ask(f"phi-{number}", "phi-2", now=0.02 * number)
        desk.report(holding("w", "phi-2", slots=8, sequence=2 + number, outcomes=desk.outcomes("w")), 0.02 * number)
    assert not desk.ask("waits", now=1.0)
    assert desk.bind(1.1) == []
    assert desk.bind(3.0) == []
    turn_s = desk.dispatcher.turn_s("llama-7b", 3.0)
    assert turn_s == pytest.approx(2 * (1.5 * 2.0 + 0.1 * (1 + math.log(8)))), "two models on one space: two loads, two stays, two drains"
    assert desk.bind(1.0 + turn_s) == ["waits"], "its turn has come"


def test_those_who_wait_together_wait_shorter() -> None:
    times = {}
    for crowd in (1, 10):
        desk = Desk(holding("w", "phi-2", slots=8))
        desk.ask("phi", "phi-2")
        desk.report(holding("w", "phi-2", slots=8, sequence=2, outcomes=desk.outcomes("w")), 0.5)
        for number in range(crowd):
            assert not desk.ask(f"r{number}", now=1.0)
        now = 1.0
        while not desk.bind(now):
            now = max(now + 0.001, desk.dispatcher.next_timer())
        times[crowd] = now - 1.0
    assert times[10] < times[1] / 5


def test_what_nobody_asks_for_is_put_out_at_once() -> None:
    assert Desk(holding("w", "phi-2")).ask("r")


def test_those_for_an_absent_model_are_one_load_and_joins() -> None:
    desk = Desk(*(worker(f"w{number}", timings=MEASURED, slots=2) for number in range(8)))
    for number in range(15):
        desk.ask(f"r{number}")
    assert set(desk.workers()) == {desk.decided[0][1].worker_id}  # type: ignore[union-attr]
    [loading] = desk.workers()
    assert len(desk.dispatcher) == 0, "the line of a load under way is bound to it, however few slots there are"
    desk.report(worker(loading, "llama-7b", timings=MEASURED, slots=2, sequence=2, outcomes=desk.outcomes(loading, CacheResult.JOIN)), 2.0)
    statistics = desk.case.placer.statistics
    assert statistics.hits == 0, "who waits for a load hits nothing"
    assert statistics.joins == len(desk.decided) == 15


def test_many_absent_models_load_where_there_is_room_and_nothing_is_refused() -> None:
    workers = [worker(f"w{number}", timings=MEASURED, slots=2, memory_capacity_bytes=26 * GB) for number in range(4)]
    desk = Desk(*workers)
    for number in range(30):
        desk.ask(f"r{number}", ("llama-7b", "phi-2")[number % 2])
    loads = {(decision.worker_id, request_id) for request_id, decision in desk.decided if isinstance(decision, Decision)}
    assert len(loads) + len(desk.dispatcher) == 30
    cold = [decision for _, decision in desk.decided if isinstance(decision, Decision) and decision.action is Action.COLD_START]
    assert len({decision.worker_id for decision in cold}) <= 2


def test_a_full_desk_refuses() -> None:
    desk = Desk(holding("w", "llama-7b", slots=1), capacity=3)
    while len(desk.dispatcher) < 3:
        desk.ask("r")
    with pytest.raises(NoCapacity):
        desk.ask("r")
    assert len(desk.dispatcher) == 3


def test_where_there_are_many_slots_more_may_wait() -> None:
    desk = Desk(holding("w", "llama-7b", slots=2), capacity=3)
    desk.dispatcher = Dispatcher(desk.case.placer, capacity=3, per_slot=5)
    while len(desk.dispatcher) < 10:
        desk.ask("r")
    with pytest.raises(NoCapacity):
        desk.ask("r")


def test_a_full_desk_says_when_a_load_under_way_will_make_room() -> None:
    loading = worker("v", timings=MEASURED, loading={"phi-2": 3.0}, memory_capacity_bytes=13 * GB, memory_used_bytes=5 * GB)
    desk = Desk(loading)
    desk.dispatcher = Dispatcher(desk.case.placer, capacity=1)
    excluded = PlacementRequest("r", "phi-2", may_queue=True, excluded=frozenset({"v"}))
    desk.dispatcher.wait(excluded, 0.0)
    with pytest.raises(NoCapacity) as refused:
        desk.dispatcher.wait(excluded, 0.0)
    assert refused.value.retry_after_s == 3.0


def test_a_deadline_that_cannot_be_met_is_refused_at_once_with_the_estimate() -> None:
    desk = Desk(holding("w", "llama-7b", queue_depth=50, busy_slots=1))
    with pytest.raises(DeadlineImpossible) as refused:
        desk.ask("r", deadline_s=0.5)
    assert refused.value.estimate_s > 2.0


def test_a_request_that_has_no_time_to_wait_does_not_wait() -> None:
    desk = Desk(holding("w", "llama-7b", slots=1))
    while desk.ask("more"):
        pass
    assert desk.ask("soon", deadline_s=0.25)


def test_whoever_leaves_is_forgotten() -> None:
    desk = Desk(holding("w", "llama-7b", slots=1))
    while desk.ask("r"):
        pass
    ticket = desk.tickets["r"]
    assert desk.dispatcher.take_out(ticket)
    assert not desk.dispatcher.take_out(ticket)
    assert desk.bind(100.0) == []
    assert len(desk.dispatcher) == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(["llama-7b", "phi-2"]), st.integers(0, 9)),
        st.tuples(st.just("report"), st.sampled_from(["a", "b"]), st.sampled_from(["llama-7b", "phi-2"])),
        st.tuples(st.just("leave"), st.integers(0, 50), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps)
def test_nobody_is_lost_or_bound_twice_and_each_has_its_turn(program: list[tuple[str, object, object]]) -> None:
    desk = Desk(holding("a", "llama-7b", slots=1), holding("b", "phi-2", slots=1), capacity=20)
    now, sequence, asked, gone, refused = 0.0, 1, 0, set[str](), 0
    for kind, first, second in program:
        now += 0.05
        if kind == "ask":
            asked += 1
            try:
                desk.ask(f"r{asked}", str(first), now=now, priority=int(str(second)))
            except NoCapacity:
                refused += 1
        elif kind == "report":
            sequence += 1
            desk.report(holding(str(first), str(second), slots=1, sequence=sequence, outcomes=desk.outcomes(str(first))), now)
        else:
            name = f"r{first}"
            if name in desk.tickets and desk.dispatcher.take_out(desk.tickets[name]):
                gone.add(name)
        desk.bind(now)
        oldest = min((each.since for each in desk.dispatcher.waiting()), default=now)
        assert now - oldest < 4.0 + 3.0
    names = [request_id for request_id, _ in desk.decided]
    assert len(names) == len(set(names))
    assert not gone & set(names)
    assert len(names) + len(gone) + len(desk.dispatcher) + refused == asked
    assert len(desk.dispatcher) <= 20
