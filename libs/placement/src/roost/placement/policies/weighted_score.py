"""The reference: `1000 * has_model - 10 * queue_depth - 100 * gpu_utilization`, best score wins.

Prefers a worker that has the model ready, however busy, until it is a hundred requests (or 90 and a saturated GPU) worse than the least
loaded one; without any, the least loaded worker loads the model. Behaves badly when one model is hot: its few holders are queued up to a
hundred deep before another worker loads it. Behaves badly when models differ in speed, because ten waiting requests weigh the same
whether they take a second or a minute, when workers differ in slots, which the score does not know, and when a burst for an absent model
arrives: every idle worker loads its own copy.
"""

from __future__ import annotations

from roost.placement.candidate import Candidate
from roost.placement.fleet import Fleet
from roost.placement.fleet_indexes import IndexByGroup, IndexByModel
from roost.placement.load_index import lightest
from roost.placement.policies.policy import Choice, Policy, Waiting, the
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng


def _with_model(candidate: Candidate) -> float:
    """The negated score where the model is ready. `queue_depth` counts the decider's reservations in."""
    return -(1000 * 1 - 10 * candidate.queue_depth - 100 * candidate.state.gpu_utilization)


def _without_model(candidate: Candidate) -> float:
    """The negated score where it is not."""
    return -(1000 * 0 - 10 * candidate.queue_depth - 100 * candidate.state.gpu_utilization)


class WeightedScore(Policy):
    """Holders of a model and all candidates are indexed by their negated score; the best is the lightest of both.

    A holder is filed in both, and its place among all candidates is 1000 points behind: it never wins by that one.
    """

    because = "is least loaded"

    def __init__(self, fleet: Fleet, rng: Rng) -> None:
        self._rng = rng
        self._holders = IndexByModel(fleet, lambda _model: _with_model)
        self._everyone = IndexByGroup(fleet, _without_model)

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | None:
        del waiting
        holders = self._holders.get(request.model)
        if holders is None:
            best = lightest(self._everyone.for_model(request.model), self._rng, request.excluded)
        else:
            best = lightest((holders,), self._rng, request.excluded) if request.excluded else holders.lightest(self._rng)
            if best is None or _with_model(best) >= 0:  # else nobody without the model has a better score
                best = lightest([holders, *self._everyone.for_model(request.model)], self._rng, request.excluded)
        return None if best is None else the(best)
