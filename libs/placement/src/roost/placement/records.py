"""What was decided and why, kept for a while: each decision with the request, what was considered, and what became of it.

State: the last `capacity` records, by request and by decision. Invariants: a record is found by its request until it falls out of the ring;
a worker's state in a record is the one that the decider saw, because states are never changed. Nothing is worked out here: what a record
costs is a few references, so that every decision can be recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from roost.cluster.errors import RoostError
from roost.cluster.view import WorkerEntry
from roost.cluster.worker_state import CacheResult, DecisionOutcome
from roost.placement.candidate import Candidate
from roost.placement.cost import Cost
from roost.placement.decision import Decision
from roost.placement.request import PlacementRequest

DEFAULT_CAPACITY = 1_000  # each may be the last to hold on to the states of eight workers, some kilobytes each
MOST_CONSIDERED = 8


class Considered(NamedTuple):
    """A worker as it was when the decision was made.

    `reserved` counts the decider's earlier decisions that no report had shown yet, `reserved_here` those for the same model. `cost` is None
    where the policy does not weigh costs.
    """

    entry: WorkerEntry
    reserved: int
    reserved_here: int
    cost: Cost | None


@dataclass(slots=True)
class DecisionRecord:
    """One decision, or one refusal. `decided_at` and `settled_at` are the decider's clock; `outcome` is None until its worker told."""

    decided_at: float
    request: PlacementRequest
    result: Decision | RoostError
    considered: tuple[Considered, ...] = ()
    outcome: CacheResult | None = None
    settled_at: float = 0.0


class DecisionRecords:
    """A ring of the last `capacity` records."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be 1 or more (got {capacity})")
        self.capacity = capacity
        self._ring: deque[DecisionRecord] = deque()
        self._of_request: dict[str, list[DecisionRecord]] = {}
        self._of_decision: dict[str, DecisionRecord] = {}

    def decided(self, request: PlacementRequest, decision: Decision, considered: tuple[Considered, ...], now: float) -> None:
        record = DecisionRecord(now, request, decision, considered)
        self._of_decision[decision.decision_id] = record
        self._add(record)

    def refused(self, request: PlacementRequest, refusal: RoostError, now: float) -> None:
        self._add(DecisionRecord(now, request, refusal))

    def settled(self, outcomes: Iterable[DecisionOutcome], now: float) -> None:
        """A worker told what became of decisions; of those that are not remembered it is not kept."""
        for outcome in outcomes:
            record = self._of_decision.get(outcome.decision_id)
            if record is not None and record.outcome is None:
                record.outcome, record.settled_at = outcome.cache_result, now

    def of(self, request_id: str) -> tuple[DecisionRecord, ...]:
        """Every record of that request, in order; none if it was never asked for, or too long ago."""
        return tuple(self._of_request.get(request_id, ()))

    def _add(self, record: DecisionRecord) -> None:
        if len(self._ring) >= self.capacity:
            self._drop(self._ring.popleft())
        self._ring.append(record)
        self._of_request.setdefault(record.request.request_id, []).append(record)

    def _drop(self, record: DecisionRecord) -> None:
        request_id = record.request.request_id
        records = self._of_request[request_id]
        records.remove(record)
        if not records:
            del self._of_request[request_id]
        if isinstance(record.result, Decision):
            self._of_decision.pop(record.result.decision_id, None)

    def __len__(self) -> int:
        return len(self._ring)

    def __repr__(self) -> str:
        return f"<DecisionRecords {len(self)}/{self.capacity}>"


def considered_by(
    costs: Mapping[Candidate, Cost], chosen: Candidate, others: Iterable[Candidate], model: str
) -> tuple[Considered, ...]:
    """The chosen worker, then those that the policy priced, cheapest first, or else some `others` that have the model; at most eight."""
    found = [_considered(chosen, costs.get(chosen), model)]
    if len(costs) > 1:
        cheapest = sorted((cost.total_s, number, each) for number, (each, cost) in enumerate(costs.items()) if each is not chosen)
        found += [_considered(each, costs[each], model) for _, _, each in cheapest[: MOST_CONSIDERED - 1]]
    for other in others:
        if len(found) >= MOST_CONSIDERED:
            break
        if other is not chosen:
            found.append(_considered(other, None, model))
    return tuple(found)


def _considered(candidate: Candidate, cost: Cost | None, model: str) -> Considered:
    reserved = candidate.reserved
    return Considered(candidate.entry, reserved.count, reserved.by_model.get(model, 0), cost)
