"""Requests that wait, best first: by priority, which grows with waiting, and first come first served among equals.

State: the waiting items, each in exactly one of two orders. An item's effective priority is `priority + waited / aging_s`, at most 9. Below
9 the order of two items never changes, because both age alike: it is the order of `priority * aging_s - arrival`, which is computed once.
At 9 aging ends and arrival alone counts; an item moves over once, at `arrival + (9 - priority) * aging_s`, and they do so in their order.
An item that has waited elsewhere before (in a scheduler) counts as having arrived that much earlier, but at 9 it stands as it came.
Invariants: at most `capacity` items; none is lost or served twice; nothing that arrives after an item has reached 9 is served before it
while both are ready, so an item waits for those that were there by then and for no others: nothing starves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from roost.cluster.errors import NoCapacity
from roost.cluster.names import PRIORITIES, check_priority
from roost.placement.ordered import Ordered, ordered

TOP_PRIORITY = PRIORITIES - 1
RETRY_AFTER_S = 1.0  # a full queue moves on within about one service time

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """One pushed item's place: names it, so that it can be taken out again."""

    number: int


@dataclass(slots=True)
class _Waiting(Generic[T]):
    item: T
    priority: int
    urgency_s: float  # priority * aging_s - arrival; higher is served first
    is_at_top: bool


class PriorityQueue(Generic[T]):
    """Bounded and aged. Time is the caller's, in seconds, and does not go back."""

    def __init__(self, *, capacity: int, aging_s: float = 10.0) -> None:
        if capacity < 1 or aging_s <= 0:
            raise ValueError("capacity must be 1 or more and aging_s above 0")
        self._capacity = capacity
        self._aging_s = aging_s
        self._waiting: dict[int, _Waiting[T]] = {}
        self._top: Ordered[int] = ordered()  # ticket numbers of items at 9, by arrival
        self._aging: Ordered[tuple[float, int]] = ordered()  # (-urgency_s, ticket number) of all others
        self._depths = [0] * PRIORITIES
        self._next_number = 0

    def push(self, item: T, priority: int, now: float, waited_s: float = 0.0) -> Place:
        """Add an item that has waited for `waited_s` elsewhere and ages by it, too.

        Raises NoCapacity if the queue is full, InvalidField if the priority is not 0-9.
        """
        check_priority(priority)
        if len(self._waiting) >= self._capacity:
            raise NoCapacity(f"{self._capacity} requests are waiting and the queue is full", RETRY_AFTER_S)
        number = self._next_number
        self._next_number += 1
        urgency_s = priority * self._aging_s - (now - waited_s)
        waiting = _Waiting(item, priority, urgency_s, is_at_top=self._is_at_top(urgency_s, priority, now))
        self._waiting[number] = waiting
        self._depths[priority] += 1
        if waiting.is_at_top:
            self._top.add(number)
        else:
            self._aging.add((-waiting.urgency_s, number))
        return Place(number)

    def pop(self, now: float, ready: Callable[[T], bool] | None = None) -> T | None:
        """Take out the best item for which `ready(item)`, or None. Items that are not ready are passed over, at O(1) each."""
        self._promote(now)
        for number in self._top:
            if ready is None or ready(self._waiting[number].item):
                return self._take(number)
        for _, number in self._aging:
            if ready is None or ready(self._waiting[number].item):
                return self._take(number)
        return None

    def first(self, now: float) -> tuple[Place, T] | None:
        """The best item and its ticket; it stays."""
        self._promote(now)
        number = self._top[0] if self._top else self._aging[0][1] if self._aging else None
        return None if number is None else (Place(number), self._waiting[number].item)

    def remove(self, ticket: Place) -> bool:
        """Take an item out. False if it is not waiting any more."""
        if ticket.number not in self._waiting:
            return False
        self._take(ticket.number)
        return True

    def ahead_of(self, priority: int, now: float, waited_s: float = 0.0) -> int:
        """How many items would be served before one of this priority that came now, having waited elsewhere, if all were ready."""
        self._promote(now)
        urgency_s = priority * self._aging_s - (now - waited_s)
        if self._is_at_top(urgency_s, priority, now):
            return len(self._top)
        return len(self._top) + self._aging.bisect_right((-urgency_s, self._next_number))

    def place(self, ticket: Place, now: float) -> int:
        """How many items would be served before this one if all were ready; 0 for one that waits no more."""
        self._promote(now)
        waiting = self._waiting.get(ticket.number)
        if waiting is None:
            return 0
        if waiting.is_at_top:
            return self._top.bisect_right(ticket.number) - 1
        return len(self._top) + self._aging.bisect_right((-waiting.urgency_s, ticket.number)) - 1

    def depth_by_priority(self) -> tuple[int, ...]:
        """Waiting items by the priority they came with, index 0-9."""
        return tuple(self._depths)

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        depths = " ".join(f"p{priority}:{count}" for priority, count in enumerate(self._depths) if count)
        return f"<PriorityQueue {len(self)}/{self._capacity} {depths or 'empty'}, {len(self._top)} at top>"

    def _is_at_top(self, urgency_s: float, priority: int, now: float) -> bool:
        return priority >= TOP_PRIORITY or urgency_s >= TOP_PRIORITY * self._aging_s - now

    def _promote(self, now: float) -> None:
        """Move over the items that have reached 9: those with `urgency_s >= 9 * aging_s - now`."""
        while self._aging and -self._aging[0][0] >= TOP_PRIORITY * self._aging_s - now:
            _, number = self._aging.pop(0)
            self._waiting[number].is_at_top = True
            self._top.add(number)

    def _take(self, number: int) -> T:
        waiting = self._waiting.pop(number)
        self._depths[waiting.priority] -= 1
        if waiting.is_at_top:
            self._top.remove(number)
        else:
            self._aging.remove((-waiting.urgency_s, number))
        return waiting.item
