"""What became of the decisions: hits, cold starts and joins, each decision counted once.

State: four counts, and the provisional count of recent decisions whose outcome has not arrived. Invariant:
`hits + cold_starts + joins == total_requests`. A decision counts by what it expects at once and is corrected, once, by its outcome: by what
its request found, or taken back where the worker refused it. One whose outcome never comes, or comes after 65,536 later decisions, keeps
its provisional count. They are forgotten a generation at a time: to keep them in order would cost each decision as much as to count it.
"""

from __future__ import annotations

from roost.cluster.worker_state import CacheResult, DecisionOutcome
from roost.placement.decision import Action

RECENT_DECISIONS = 65_536  # up to twice as many, about 14 MB; six seconds at 10,000 decisions/s, hours at 10/s

# An enum's member is looked up in Python each time it is named: too slow for each decision.
_SERVE = Action.SERVE
_HIT = CacheResult.HIT
_COLD_START = CacheResult.COLD_START
_JOIN = CacheResult.JOIN


class PlacementStatistics:
    """Counts since the decider started."""

    def __init__(self, recent_decisions: int = RECENT_DECISIONS) -> None:
        self.total_requests = 0
        self.hits = 0  # requests that found their model ready
        self.cold_starts = 0  # requests that caused a load
        self.joins = 0  # requests that waited for a load already under way
        self._provisional: dict[str, CacheResult] = {}
        self._earlier: dict[str, CacheResult] = {}
        self._recent_decisions = recent_decisions

    @property
    def cache_hit_rate(self) -> float:
        """Hits divided by requests, 0.0 before the first."""
        return self.hits / self.total_requests if self.total_requests else 0.0

    def decided(self, decision_id: str, action: Action, *, is_join: bool = False) -> None:
        """Count a decision by what it expects. `is_join`: of one that is to wait for the model, that its load is under way."""
        self.total_requests += 1
        provisional = self._provisional
        if action is _SERVE:
            self.hits += 1
            provisional[decision_id] = _HIT
        elif is_join:
            self.joins += 1
            provisional[decision_id] = _JOIN
        else:
            self.cold_starts += 1
            provisional[decision_id] = _COLD_START
        if len(provisional) >= self._recent_decisions:
            self._earlier, self._provisional = provisional, {}

    def waited_for_load(self, decision_id: str) -> None:
        """A decision to serve was made for a request that had waited here until its model was loaded: it is a join.

        So says its worker, too, unless it finds otherwise: then that counts, as for any decision.
        """
        if self._taken(decision_id) is not None:
            self._count(_HIT, -1)
            self.joins += 1
            self._provisional[decision_id] = _JOIN

    def settled(self, outcome: DecisionOutcome) -> None:
        """Correct a decision by what its request found. Decisions of others, and outcomes told twice, change nothing."""
        expected = self._taken(outcome.decision_id)
        if expected is not None and expected is not outcome.cache_result:
            self._count(expected, -1)
            if outcome.cache_result is CacheResult.REFUSED:
                self.total_requests -= 1
            else:
                self._count(outcome.cache_result, 1)

    def _taken(self, decision_id: str) -> CacheResult | None:
        """What the decision counts as, the first time it is asked for."""
        return self._provisional.pop(decision_id, None) or self._earlier.pop(decision_id, None)

    def _count(self, result: CacheResult, by: int) -> None:
        if result is _HIT:
            self.hits += by
        elif result is _COLD_START:
            self.cold_starts += by
        else:
            self.joins += by

    def __repr__(self) -> str:
        return (
            f"<PlacementStatistics {self.total_requests} requests: {self.hits} hits, {self.cold_starts} cold starts, {self.joins} joins; "
            f"{len(self._provisional) + len(self._earlier)} provisional>"
        )
