"""Spreads what several deciders with views of different age would all send to the same worker.

Where two workers are as good as each other, give or take one request, the policy's favourite is no better than the other: a coin decides.
Many sidecars that see the same stale view then share a burst between two workers instead of heaping it on one (Mitzenmacher, "How useful is
old information?", 2000). Behaves badly where one decider has a fresh view: it gives up the favourite for nothing, so the coordinator does
without it.
"""

from __future__ import annotations

from roost.placement.candidate import Candidate
from roost.placement.policies.policy import Policy
from roost.placement.request import MAX_EXCLUDED, PlacementRequest
from roost.placement.rng import Rng

NEAR = 1  # requests waiting, running and reserved by which two workers may differ and still be as good as each other


class TwoChoices:
    """A policy around a policy."""

    def __init__(self, policy: Policy, rng: Rng) -> None:
        self._policy = policy
        self._rng = rng

    @property
    def because(self) -> str:
        return self._policy.because

    def choose(self, request: PlacementRequest) -> Candidate | None:
        first = self._policy.choose(request)
        if first is None or len(request.excluded) >= MAX_EXCLUDED:
            return first
        second = self._policy.choose(request._replace(excluded=request.excluded | {first.node_id}))
        if second is None or not _is_near(first, second, request.model):
            return first
        return first if self._rng.random() < 0.5 else second


def _is_near(first: Candidate, second: Candidate, model: str) -> bool:
    return (model in first.ready) is (model in second.ready) and abs(first.outstanding - second.outstanding) <= NEAR
