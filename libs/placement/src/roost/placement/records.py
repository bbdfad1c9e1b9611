"""What was decided and why, kept for a while: each decision with the request, what was considered, and what became of it.

State: the last `capacity` records and the last outcomes, both in order. Invariant: a worker's state in a record is the one that the decider
saw, because states are never changed. Nothing is looked up or put in order before somebody asks: what a record costs is a few references,
so that every decision can be recorded, and a question costs one look at each record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple, cast

from roost.cluster.errors import RoostError
from roost.cluster.view import WorkerEntry
from roost.cluster.worker_state import CacheResult, DecisionOutcome
from roost.placement.candidate import Candidate
from roost.placement.cost import Cost
from roost.placement.costs import Priced
from roost.placement.decision import Decision
from roost.placement.failures import MAX_TOLD, PassedOver
from roost.placement.request import PlacementRequest

DEFAULT_CAPACITY = 1_000  # each may be the last to hold on to the states of eight workers, some kilobytes each
MOST_CONSIDERED = 8

Seen = list[WorkerEntry | float | None]
"""The fields of each `Considered`, its cost taken apart: one list a decision, because the garbage collector looks at each object that
stays, and what stays for a while is cold when it goes.
"""


class Considered(NamedTuple):
    """A worker as it was when the decision was made.

    `reserved` counts the decider's earlier decisions that no report had shown yet, `reserved_here` those for the same model. `cost` is None
    where the policy does not weigh costs.
    """

    entry: WorkerEntry
    reserved: int
    reserved_here: int
    cost: Cost | None


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision, or one refusal, with the chosen worker first and the others that were priced after it, cheapest first.

    `decided_at` and `settled_at` are the decider's clock; `outcome` is None until its worker told. `passed_over` could have been chosen
    but for what had failed there.
    """

    decided_at: float
    request: PlacementRequest
    result: Decision | RoostError
    considered: tuple[Considered, ...] = ()
    outcome: CacheResult | None = None
    settled_at: float = 0.0
    passed_over: tuple[PassedOver, ...] = ()


class DecisionRecords:
    """A ring of the last `capacity` records."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be 1 or more (got {capacity})")
        self.capacity = capacity
        self._ring: deque[tuple[float, PlacementRequest, Decision | RoostError, Seen, tuple[PassedOver, ...]]] = deque(maxlen=capacity)
        # Twice as many, because outcomes of decisions that are forgotten come between those of decisions that are not.
        self._outcomes: deque[tuple[DecisionOutcome, float]] = deque(maxlen=2 * capacity)

    def decided(
        self, request: PlacementRequest, decision: Decision, seen: Seen, now: float, passed_over: tuple[PassedOver, ...] = ()
    ) -> None:
        self._ring.append((now, request, decision, seen, passed_over[:MAX_TOLD]))

    def refused(self, request: PlacementRequest, refusal: RoostError, now: float, passed_over: tuple[PassedOver, ...] = ()) -> None:
        self._ring.append((now, request, refusal, [], passed_over[:MAX_TOLD]))

    def settled(self, outcomes: Iterable[DecisionOutcome], now: float) -> None:
        """A worker told what became of decisions. What it tells again changes nothing."""
        self._outcomes.extend(zip(outcomes, repeat(now)))

    def of(self, request_id: str) -> tuple[DecisionRecord, ...]:
        """Every record of that request, in order; none if it was never asked for, or too long ago."""
        return tuple([self._told(*kept) for kept in self._ring if kept[1].request_id == request_id])

    def _told(
        self, now: float, request: PlacementRequest, result: Decision | RoostError, seen: Seen, passed_over: tuple[PassedOver, ...]
    ) -> DecisionRecord:
        if isinstance(result, RoostError):
            return DecisionRecord(now, request, result, passed_over=passed_over)
        considered = sorted(_considered(seen), key=lambda each: _rank(each, result.worker_id))
        for outcome, settled_at in self._outcomes:
            if outcome.decision_id == result.decision_id:
                return DecisionRecord(now, request, result, tuple(considered), outcome.cache_result, settled_at, passed_over)
        return DecisionRecord(now, request, result, tuple(considered), passed_over=passed_over)

    def __len__(self) -> int:
        return len(self._ring)

    def __repr__(self) -> str:
        return f"<DecisionRecords {len(self)}/{self.capacity}>"


def _rank(considered: Considered, chosen: str) -> tuple[bool, float]:
    """The chosen one first."""
    return (considered.entry.node_id != chosen, 0.0 if considered.cost is None else considered.cost.total_s)


def seen_by(priced: Mapping[Candidate, Priced], chosen: Candidate, others: Iterable[Candidate], model: str) -> Seen:
    """The chosen worker, those that the policy priced, and if it priced none some `others` that have the model: at most eight."""
    seen: Seen = []
    if 0 < len(priced) <= MOST_CONSIDERED and chosen in priced:
        for each, (cost, _) in priced.items():
            seen += (each.entry, each.reserved.count, each.reserved.by_model.get(model, 0), *cost)
        return seen
    costs = {each: cost for each, (cost, _) in priced.items()}
    found: dict[Candidate, Cost | None] = {chosen: costs.get(chosen)}
    for each in sorted(costs, key=lambda each: costs[each].total_s) or others:
        if len(found) >= MOST_CONSIDERED:
            break
        found[each] = costs.get(each)
    for each, cost_or_none in found.items():
        seen += (each.entry, each.reserved.count, each.reserved.by_model.get(model, 0), *(cost_or_none or _NO_COST))
    return seen


_NO_COST = (None,) * len(Cost._fields)
_FIELDS = 3 + len(Cost._fields)


def _considered(seen: Seen) -> Iterator[Considered]:
    for at in range(0, len(seen), _FIELDS):
        entry, reserved, reserved_here, *cost = seen[at : at + _FIELDS]
        yield Considered(
            cast("WorkerEntry", entry),
            cast("int", reserved),
            cast("int", reserved_here),
            None if cost[0] is None else Cost._make(cast("list[float]", cost)),
        )
