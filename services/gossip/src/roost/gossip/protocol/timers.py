"""One heap of absolute deadlines: at most one for each key.

Invariant: an entry of the heap is current only if `_deadlines` holds the same deadline and ticket for its key; cancelled and replaced
entries stay behind until they surface or outnumber the current ones.
"""

from __future__ import annotations

import heapq

TimerKey = tuple[str, str | int]  # what is due, and for whom

_REBUILD_ABOVE = 64  # below this many entries the stale ones cost nothing


class Timers:
    """Deadlines by key. Equal deadlines fire in the order they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerKey]] = []
        self._deadlines: dict[TimerKey, tuple[float, int]] = {}
        self._tickets = 0

    def set(self, key: TimerKey, deadline: float) -> None:
        """Let `key` be due at `deadline`, in place of any earlier deadline of it."""
        self._tickets += 1
        self._deadlines[key] = (deadline, self._tickets)
        heapq.heappush(self._heap, (deadline, self._tickets, key))
        if len(self._heap) > _REBUILD_ABOVE and len(self._heap) > 2 * len(self._deadlines):
            self._heap = [(due, ticket, known) for known, (due, ticket) in self._deadlines.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: TimerKey) -> None:
        self._deadlines.pop(key, None)

    def clear(self) -> None:
        self._heap.clear()
        self._deadlines.clear()

    def deadline(self, key: TimerKey) -> float | None:
        entry = self._deadlines.get(key)
        return None if entry is None else entry[0]

    def next(self) -> float | None:
        """The earliest deadline, or None if nothing is waited for."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> TimerKey | None:
        """The key with the earliest deadline at or before `now`, removed; None if nothing is due."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._deadlines[key]
        return key

    def _drop_stale(self) -> None:
        while self._heap:
            _, ticket, key = self._heap[0]
            current = self._deadlines.get(key)
            if current is not None and current[1] == ticket:
                return
            heapq.heappop(self._heap)

    def __len__(self) -> int:
        return len(self._deadlines)

    def __repr__(self) -> str:
        return f"<Timers {len(self)} waiting, next {self.next()}>"
