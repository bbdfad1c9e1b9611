"""Spreads what several deciders with views of different age would all send to the same worker.

Where two workers are as good as each other, give or take one request, the policy's favourite is no better than the other: a coin decides.
Many sidecars that see the same stale view then share a burst between two workers instead of heaping it on one (Mitzenmacher, "How useful is
old information?", 2000). Behaves badly where one decider has a fresh view: it gives up the favourite for nothing, so the coordinator does
without it; and where a policy spreads by itself, such as round-robin, whose turns a coin would take away.
"""

from __future__ import annotations

from roost.placement.candidate import Candidate
from roost.placement.policies.policy import Choice, Patience, Policy, Waiting
from roost.placement.request import MAX_EXCLUDED, PlacementRequest
from roost.placement.rng import Rng

NEAR = 1  # requests waiting, running and reserved by which two workers may differ and still be as good as each other


class TwoChoices(Policy):
    """A policy around a policy: where that would rather wait, so does this."""

    def __init__(self, policy: Policy, rng: Rng) -> None:
        self._policy = policy
        self._rng = rng
        self.because = policy.because
        self.is_patient = policy.is_patient
        self.is_spread = True

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | Patience | None:
        first = self._policy.choose(request, waiting)
        if not isinstance(first, Choice) or len(request.excluded) >= MAX_EXCLUDED:
            return first
        second = self._policy.choose(request._replace(excluded=request.excluded | {first.candidate.node_id}), waiting)
        if not isinstance(second, Choice) or not _is_near(first.candidate, second.candidate, request.model):
            return first
        chosen = first if self._rng.random() < 0.5 else second
        return chosen._replace(considered={**first.considered, **second.considered})

    def taken(self, request: PlacementRequest, choice: Choice) -> None:
        self._policy.taken(request, choice)


def _is_near(first: Candidate, second: Candidate, model: str) -> bool:
    return (model in first.ready) is (model in second.ready) and abs(first.outstanding - second.outstanding) <= NEAR
