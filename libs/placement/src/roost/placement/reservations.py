"""Decisions that no report has shown yet, so that a burst between two reports spreads instead of piling up.

State: open reservations in the order they were made, and one `Tally` a worker that holds and sums its own. Invariants: a tally's counts
are the sums of its open reservations; none is older than the bound after `expire`. Whoever drops reservations is told which workers
became lighter. Time never goes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from roost.cluster.names import PRIORITIES
from roost.cluster.worker_state import DecisionOutcome

SIMPLE_REPORTER_BOUND_S = 1.0  # a reporter that lists no arrivals has counted a request by its next report after this


@dataclass(slots=True)
class Tally:
    """Open reservations of one worker, oldest first, and their counts: in all, by model, and by each priority above the lowest."""

    open: dict[str, Reservation] = field(default_factory=dict)
    count: int = 0
    by_priority: list[int] = field(default_factory=lambda: [0] * PRIORITIES)
    by_model: dict[str, int] = field(default_factory=dict)

    def at_or_above(self, priority: int) -> int:
        """Those that a request of this priority has to let go first."""
        return self.count if priority == 0 else sum(self.by_priority[priority:])


class Reservation(NamedTuple):
    """One decision on its way. `made_at` is the decider's time in seconds."""

    node_id: str
    model: str
    priority: int
    made_at: float


class Reservations:
    """Bounded by time: at most what was decided within `bound_s`."""

    def __init__(self, *, bound_s: float) -> None:
        self._bound_s = bound_s
        self._open: dict[str, Reservation] = {}
        self._tallies: dict[str, Tally] = {}
        self.next_expiry = math.inf  # none reaches the bound before: asked with each decision, when nearly always none has

    def open(self) -> tuple[tuple[str, Reservation], ...]:
        """Every open one by its decision, in the order they were made."""
        return tuple(self._open.items())

    def tally(self, node_id: str) -> Tally:
        """The worker's tally; the same object until the worker is forgotten."""
        tally = self._tallies.get(node_id)
        if tally is None:
            tally = self._tallies[node_id] = Tally()
        return tally

    def count(self, node_id: str) -> int:
        tally = self._tallies.get(node_id)
        return 0 if tally is None else tally.count

    def make(self, decision_id: str, reservation: Reservation, tally: Tally | None = None) -> None:
        """Keep one, in the worker's `tally` where the caller has it at hand."""
        node_id, model, priority, made_at = reservation
        if not self._open:
            self.next_expiry = made_at + self._bound_s
        self._open[decision_id] = reservation
        if tally is None:
            tally = self.tally(node_id)
        tally.open[decision_id] = reservation
        tally.count += 1
        if priority:
            tally.by_priority[priority] += 1
        by_model = tally.by_model
        by_model[model] = by_model[model] + 1 if model in by_model else 1

    def drop(self, decision_id: str) -> str | None:
        """Drop one. The worker it was for, or None if it is not open."""
        reservation = self._open.pop(decision_id, None)
        if reservation is None:
            return None
        node_id, model, priority, _ = reservation
        tally = self._tallies[node_id]
        del tally.open[decision_id]
        tally.count -= 1
        if priority:
            tally.by_priority[priority] -= 1
        by_model = tally.by_model
        if by_model[model] == 1:
            del by_model[model]
        else:
            by_model[model] -= 1
        return node_id

    def drop_reached(self, node_id: str, outcomes: Iterable[DecisionOutcome]) -> None:
        """Drop those for this worker that its report names."""
        tally = self._tallies.get(node_id)
        if tally is None:
            return
        for outcome in outcomes:
            if outcome.decision_id in tally.open:
                self.drop(outcome.decision_id)

    def drop_made_before(self, node_id: str, before: float) -> bool:
        """Drop the worker's reservations that were made before then; True if there were any."""
        tally = self._tallies.get(node_id)
        if tally is None or tally.count == 0:
            return False
        old = [decision_id for decision_id, reservation in tally.open.items() if reservation.made_at < before]
        for decision_id in old:
            self.drop(decision_id)
        return bool(old)

    def expire(self, now: float) -> AbstractSet[str]:
        """Drop those that have reached the bound; the workers they were for."""
        if now < self.next_expiry:
            return frozenset()
        expired: list[str] = []
        self.next_expiry = math.inf
        for decision_id, reservation in self._open.items():
            if reservation.made_at + self._bound_s > now:
                self.next_expiry = reservation.made_at + self._bound_s
                break
            expired.append(decision_id)
        # In order, so that a run can be repeated.
        return dict.fromkeys([node_id for decision_id in expired if (node_id := self.drop(decision_id)) is not None]).keys()

    def forget(self, node_id: str) -> None:
        """The worker is not known any more."""
        self.drop_made_before(node_id, float("inf"))
        self._tallies.pop(node_id, None)

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        workers = sum(tally.count > 0 for tally in self._tallies.values())
        return f"<Reservations {len(self)} open on {workers} workers, bound {self._bound_s:g} s>"
