"""The priority queue: order, aging, bounds."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from roost.cluster.errors import InvalidField, NoCapacity
from roost.placement.queue import Place, PriorityQueue

AGING_S = 10.0


def queue_of(*priorities: int, capacity: int = 100) -> PriorityQueue[str]:
    """One item of each priority, all pushed at 0; an item is its priority and its number."""
    queue: PriorityQueue[str] = PriorityQueue(capacity=capacity, aging_s=AGING_S)
    for number, priority in enumerate(priorities):
        queue.push(f"{priority}:{number}", priority, 0.0)
    return queue


def drain(queue: PriorityQueue[str], now: float) -> list[str]:
    return [item for item in iter(lambda: queue.pop(now), None) if item is not None]


def test_the_highest_priority_is_first_and_equals_in_order_of_arrival() -> None:
    assert drain(queue_of(0, 9, 3, 9, 0), 0.0) == ["9:1", "9:3", "3:2", "0:0", "0:4"]


def test_an_empty_queue_has_nothing() -> None:
    assert queue_of().pop(0.0) is None


@pytest.mark.parametrize(("waited_s", "first"), [(19.9, "new"), (20.0, "0:0"), (20.1, "0:0")])
def test_each_aging_time_waited_raises_an_item_by_one_priority(waited_s: float, first: str) -> None:
    queue = queue_of(0)
    queue.push("new", 2, waited_s)
    assert queue.pop(waited_s) == first


@pytest.mark.parametrize(("waited_s", "first"), [(19.9, "2:0"), (20.1, "0 that waited")])
def test_what_an_item_has_waited_elsewhere_counts(waited_s: float, first: str) -> None:
    queue = queue_of(2)
    queue.push("0 that waited", 0, 0.0, waited_s)
    assert queue.pop(0.0) == first


def test_an_item_that_comes_at_nine_stands_behind_those_that_are() -> None:
    queue = queue_of(9)
    queue.push("waited", 0, 1.0, 9 * AGING_S)
    queue.push("later", 9, 2.0)
    assert [queue.pop(2.0) for _ in range(3)] == ["9:0", "waited", "later"]


def test_a_full_queue_refuses_with_a_retry_and_keeps_what_it_has() -> None:
    queue = queue_of(0, 0, capacity=2)
    with pytest.raises(NoCapacity, match="2 requests are waiting and the queue is full") as refused:
        queue.push("more", 9, 0.0)
    assert refused.value.retry_after_s > 0
    assert drain(queue, 0.0) == ["0:0", "0:1"]


@pytest.mark.parametrize("priority", [-1, 10])
def test_a_priority_out_of_range_is_refused(priority: int) -> None:
    with pytest.raises(InvalidField, match="priority"):
        queue_of().push("x", priority, 0.0)


def test_items_that_are_not_ready_are_passed_over_and_stay() -> None:
    queue = queue_of(9, 5, 1)
    assert queue.pop(0.0, lambda item: item.startswith("1")) == "1:2"
    assert queue.pop(0.0, lambda item: False) is None
    assert drain(queue, 0.0) == ["9:0", "5:1"]


def test_a_removed_item_is_not_served_and_cannot_be_removed_twice() -> None:
    queue = queue_of(5)
    ticket = queue.push("x", 9, 0.0)
    assert queue.remove(ticket)
    assert not queue.remove(ticket)
    assert drain(queue, 0.0) == ["5:0"]


def test_a_served_item_cannot_be_removed() -> None:
    queue = queue_of()
    ticket = queue.push("x", 9, 0.0)
    queue.pop(0.0)
    assert not queue.remove(ticket)


def test_depths_are_by_the_priority_an_item_came_with() -> None:
    queue = queue_of(0, 0, 9, 4)
    assert queue.depth_by_priority() == (2, 0, 0, 0, 1, 0, 0, 0, 0, 1)
    queue.pop(1e6)
    assert queue.depth_by_priority() == (1, 0, 0, 0, 1, 0, 0, 0, 0, 1)


def test_aging_ends_at_nine_where_arrival_alone_counts() -> None:
    queue = queue_of(0)
    queue.push("urgent", 9, 50.0)
    assert queue.ahead_of(9, 89.0) == 1
    assert queue.pop(90.0) == "0:0", "it arrived first, and at 90 s it is at 9, too"


def test_at_nine_an_older_item_passes_one_that_had_a_higher_priority() -> None:
    queue = queue_of(0)
    queue.push("later", 5, 30.0)
    assert queue.ahead_of(9, 60.0) == 0
    assert [queue.pop(90.0), queue.pop(90.0)] == ["0:0", "later"]


pushes = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 30, allow_nan=False)), max_size=40)


@settings(derandomize=True, deadline=None)
@given(pushes=pushes, wait_s=st.floats(0, 200))
def test_items_are_served_by_effective_priority_then_arrival(pushes: list[tuple[int, float]], wait_s: float) -> None:
    queue: PriorityQueue[int] = PriorityQueue(capacity=100, aging_s=AGING_S)
    now, arrivals = 0.0, []
    for number, (priority, gap_s) in enumerate(pushes):
        now += gap_s
        queue.push(number, priority, now)
        arrivals.append((priority, now))
    now += wait_s
    effective = [min(9.0, priority + (now - arrival) / AGING_S) for priority, arrival in arrivals]
    served = [item for item in iter(lambda: queue.pop(now), None) if item is not None]
    assert sorted(served) == list(range(len(pushes)))
    for earlier, later in pairwise(served):
        assert effective[earlier] > effective[later] - 1e-9
        if effective[earlier] == effective[later] == 9.0 and min(_at_nine_for(arrivals[n], now) for n in (earlier, later)) > 1e-6:
            assert earlier < later


def _at_nine_for(arrival: tuple[int, float], now: float) -> float:
    return now - arrival[1] - (9 - arrival[0]) * AGING_S


@settings(derandomize=True, deadline=None)
@given(pushes=pushes, priority=st.integers(0, 9), waited_s=st.just(0.0) | st.floats(0, 200))
def test_ahead_of_tells_how_many_would_be_served_before_a_new_item(pushes: list[tuple[int, float]], priority: int, waited_s: float) -> None:
    queue: PriorityQueue[int] = PriorityQueue(capacity=100, aging_s=AGING_S)
    now = 0.0
    for number, (pushed, gap_s) in enumerate(pushes):
        now += gap_s
        queue.push(number, pushed, now)
    ahead = queue.ahead_of(priority, now, waited_s)
    queue.push(-1, priority, now, waited_s)
    assert [queue.pop(now) for _ in range(len(pushes) + 1)].index(-1) == ahead


@settings(derandomize=True, deadline=None)
@given(priority=st.integers(0, 9), rivals=st.lists(st.integers(0, 9), max_size=30))
def test_nothing_starves(priority: int, rivals: list[int]) -> None:
    """Served one a second, against a rival of any priority each second, an item waits at most until it is at 9, and for what was there."""
    queue: PriorityQueue[str] = PriorityQueue(capacity=1_000, aging_s=AGING_S)
    for rival in rivals:
        queue.push("rival", rival, 0.0)
    queue.push("item", priority, 0.0)
    bound_s = (9 - priority) * AGING_S
    for second in range(1, 200):
        queue.push("rival", 9, float(second))
        if queue.pop(float(second)) == "item":
            break
    assert second <= bound_s + len(rivals) + 1


class AnyUse(RuleBasedStateMachine):
    """Whatever is done to it, nothing is lost, nothing is served twice, and the counts add up."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.queue: PriorityQueue[int] = PriorityQueue(capacity=8, aging_s=AGING_S)
        self.now = 0.0
        self.pushed = 0
        self.waiting: dict[int, int] = {}

    @rule(target=tickets, priority=st.integers(0, 9), gap_s=st.floats(0, 60), waited_s=st.just(0.0) | st.floats(0, 200))
    def push(self, priority: int, gap_s: float, waited_s: float) -> tuple[int, Place | None]:
        self.now += gap_s
        self.pushed += 1
        try:
            ticket = self.queue.push(self.pushed, priority, self.now, waited_s)
        except NoCapacity:
            assert len(self.waiting) == 8
            return self.pushed, None
        self.waiting[self.pushed] = priority
        return self.pushed, ticket

    @rule(divisor=st.integers(1, 3), gap_s=st.floats(0, 60))
    def pop(self, divisor: int, gap_s: float) -> None:
        self.now += gap_s
        item = self.queue.pop(self.now, lambda number: number % divisor == 0)
        ready = {number for number in self.waiting if number % divisor == 0}
        assert (item in ready) if ready else item is None
        if item is not None:
            del self.waiting[item]

    @rule(pushed=consumes(tickets))
    def remove(self, pushed: tuple[int, Place | None]) -> None:
        number, ticket = pushed
        if ticket is not None:
            assert self.queue.remove(ticket) == (self.waiting.pop(number, None) is not None)

    @invariant()
    def counts_add_up(self) -> None:
        assert len(self.queue) == len(self.waiting)
        by_priority = Counter(self.waiting.values())
        assert self.queue.depth_by_priority() == tuple(by_priority[priority] for priority in range(10))


AnyUse.TestCase.settings = settings(max_examples=50, stateful_step_count=40, derandomize=True, deadline=None)
test_any_use = AnyUse.TestCase


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100)), min_size=1, max_size=20), st.floats(0, 200))
def test_an_item_s_place_is_how_many_are_taken_out_before_it(items: list[tuple[int, float]], passed_s: float) -> None:
    queue: PriorityQueue[int] = PriorityQueue(capacity=100, aging_s=AGING_S)
    now = 0.0
    tickets = []
    for number, (priority, gap_s) in enumerate(items):
        now += gap_s
        tickets.append(queue.push(number, priority, now))
    places = [queue.place(ticket, now + passed_s) for ticket in tickets]
    order = [queue.pop(now + passed_s) for _ in tickets]
    assert [order[place] for place in places] == list(range(len(items)))
    assert queue.place(tickets[0], now + passed_s) == 0, "it waits no more"
