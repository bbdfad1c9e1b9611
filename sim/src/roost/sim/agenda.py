"""Virtual time: one heap of what is due, and the clock that jumps from one to the next.

State: the time, and what is still to happen. Invariants: time never goes back; what is due at the same time happens in the order in which
it was put down, arrivals after everything else.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Act = Callable[[T], None]

_LAST = 1 << 60  # above any ticket: an arrival finds everything done that was due by then

_Due = tuple[float, int, Callable[..., None], object]


class Agenda:
    """Mutable, one owner. Times are seconds since the start of the run; what has to happen before that begins below 0."""

    __slots__ = ("_due", "_tickets", "handled", "now")

    def __init__(self, begins_at: float = 0.0) -> None:
        self.now = begins_at
        self.handled = 0  # events so far
        self._due: list[_Due] = []
        self._tickets = 0

    def at(self, when: float, act: Act[T], what: T) -> None:
        """`act(what)` at `when`, or now if that is past."""
        self._tickets += 1
        heapq.heappush(self._due, (when if when > self.now else self.now, self._tickets, act, what))  # noqa: FURB136  # max takes as long as the rest

    def arrival(self, when: float, act: Act[T], what: T) -> None:
        """As `at`, after everything else that is due at that time."""
        self._tickets += 1
        heapq.heappush(self._due, (when if when > self.now else self.now, _LAST + self._tickets, act, what))  # noqa: FURB136

    def run_until(self, end: float, is_over: Callable[[], bool] | None = None, *, look_every: int = 1) -> None:
        """Lets time pass until `end`, or until `is_over()`, which is asked after each `look_every` events."""
        due, pop, handled = self._due, heapq.heappop, self.handled
        next_look = handled + look_every
        while due and due[0][0] <= end:
            self.now, _, act, what = pop(due)
            act(what)
            handled += 1
            if handled >= next_look:
                self.handled = handled
                next_look = handled + look_every
                if is_over is not None and is_over():
                    return
        self.handled = handled
        if end > self.now and (due or end <= 0):
            self.now = end

    def __len__(self) -> int:
        return len(self._due)

    def __repr__(self) -> str:
        return f"<Agenda at {self.now:.3f} s, {len(self._due)} to come, {self.handled} done>"
