"""What fails where: a worker that failed to do something for a model is not asked for that model again before a while has passed. Pure.

State: for each model the workers that have told of failures with it, what they told, and when each may be tried again. Invariants: after
the n-th of its strikes in a row a worker is barred for `backoff_s(n)`, less up to a quarter by chance; then it is half-open, tried with one
request at a time, until one goes well. What a worker no longer tells of is forgotten: it went well, its catalogue was read anew, or it
began another life. Where nothing fails there is nothing here, and `by_model` is empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from roost.cluster.worker_state import Failing, WorkerState
from roost.placement.candidate import Candidate
from roost.placement.fleet import Fleet
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng

FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 300.0
JITTER: Final = 0.25  # of a backoff, so that deciders, and workers that failed together, do not try again together
HALF_OPEN_AFTER: Final = 3  # calls in a row: a worker's engine may break once or twice for a reason that lies in the requests
MAX_TOLD: Final = 64  # passed over: more are one cause that 64 tell as well

_MOST_DOUBLINGS: Final = 9  # 512 s are past the longest


class Bar(NamedTuple):
    """What one worker told of one model, and until when, by the decider's clock, it is not asked."""

    failing: Failing
    until: float


class PassedOver(NamedTuple):
    """A worker that could have been asked. `until` is when it may be, by the decider's clock; past where it is being tried now."""

    node_id: str
    why: str
    until: float


Bars = tuple[tuple[str, str, Bar], ...]
"""Each with its model and its worker."""


def backoff_s(strikes_in_a_row: int) -> float:
    """How long a worker is not asked for a model after so many strikes, at most; 0.0 after none."""
    if strikes_in_a_row <= 0:
        return 0.0
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(strikes_in_a_row - 1, _MOST_DOUBLINGS))


def strikes(failing: Failing) -> int:
    """How often in a row it has failed so that it is not asked for a while: each failed load counts, and lost calls from the third."""
    return failing.failed_loads + max(0, failing.lost_calls - HALF_OPEN_AFTER + 1)


class Failures:
    """Mutable, one owner (the placer)."""

    def __init__(self) -> None:
        self.by_model: dict[str, dict[str, Bar]] = {}
        self._models_of: dict[str, list[str]] = {}

    def heard(self, state: WorkerState, now: float, rng: Rng) -> None:
        """The worker's report, the whole of what fails there."""
        node_id = state.node_id
        known = {model: self.by_model[model][node_id] for model in self._models_of.get(node_id, ())}
        self.forget(node_id)
        for model, failing in state.failing.items():
            if strikes(failing):
                self._keep(model, node_id, _bar(known.get(model), failing, now, rng))

    def forget(self, node_id: str) -> None:
        """The worker tells of no failures any more."""
        for model in self._models_of.pop(node_id, ()):
            bars = self.by_model[model]
            del bars[node_id]
            if not bars:
                del self.by_model[model]

    def passed_over(self, request: PlacementRequest, fleet: Fleet, now: float) -> tuple[PassedOver, ...]:
        """Those who could take the request and are not to be asked now, ordered by name."""
        model = request.model
        bars = self.by_model.get(model)
        if bars is None:
            return ()
        groups, excluded = fleet.groups_for(model), request.excluded
        found = ((fleet.get(node_id), bar) for node_id, bar in bars.items() if node_id not in excluded)
        passed = [
            PassedOver(each.node_id, _why(bar.failing), bar.until)
            for each, bar in found
            if each is not None and each.group in groups and (now < bar.until or _is_tried(each, model))
        ]
        return tuple(sorted(passed))

    def barred_for_s(self, request: PlacementRequest, fleet: Fleet, now: float) -> float:
        """How long until the first who could take the request may be asked: infinite if there is none, 0.0 if one may be, or is tried."""
        passed_over = self.passed_over(request, fleet, now)
        names = without(request, passed_over).excluded
        if any(each.node_id not in names for group in fleet.groups_for(request.model) for each in group.members):
            return 0.0
        return soonest_s(passed_over, now)

    def told(self, model: str) -> tuple[PassedOver, ...]:
        """Every worker that the model fails on, ordered by name, whether or not it may be tried by now."""
        return tuple(sorted(PassedOver(node_id, _why(bar.failing), bar.until) for node_id, bar in self.by_model.get(model, {}).items()))

    def snapshot(self) -> Bars:
        return tuple((model, node_id, bar) for model, bars in self.by_model.items() for node_id, bar in bars.items())

    def go_on(self, bars: Bars) -> None:
        """From a snapshot."""
        self.by_model.clear()  # whoever looks into it goes on looking into the same one
        self._models_of.clear()
        for model, node_id, bar in bars:
            self._keep(model, node_id, bar)

    def _keep(self, model: str, node_id: str, bar: Bar) -> None:
        self.by_model.setdefault(model, {})[node_id] = bar
        self._models_of.setdefault(node_id, []).append(model)

    def __repr__(self) -> str:
        return f"<Failures {sum(map(len, self.by_model.values()))} of {len(self.by_model)} models on {len(self._models_of)} workers>"


def _bar(before: Bar | None, failing: Failing, now: float, rng: Rng) -> Bar:
    """A strike more bars anew; what only says the same again does not."""
    if before is not None and strikes(failing) <= strikes(before.failing):
        return Bar(failing, before.until)
    return Bar(failing, now + backoff_s(strikes(failing)) * (1.0 - JITTER * rng.random()))


def _is_tried(candidate: Candidate, model: str) -> bool:
    """Whether a request for the model is there already, or on its way."""
    if candidate.reserved.by_model.get(model):
        return True
    status = candidate.state.models.get(model)
    return status is not None and (not status.is_ready or status.in_flight > 0 or status.queued > 0)


def _why(failing: Failing) -> str:
    loads, calls = failing.failed_loads, failing.lost_calls
    what = f"{loads} load{'s' * (loads != 1)} in a row failed" if loads else f"its engine broke {calls} requests in a row"
    return f"{what} ({failing.why})" if failing.why else what


def soonest_s(passed_over: Iterable[PassedOver], now: float) -> float:
    """How long until the first of them may be tried; 0.0 where one is being tried now, infinite where there is none."""
    return min((max(0.0, each.until - now) for each in passed_over), default=float("inf"))


def without(request: PlacementRequest, passed_over: Iterable[PassedOver]) -> PlacementRequest:
    """The request as policies are asked: none of those may be chosen for it."""
    return request._replace(excluded=request.excluded.union([each.node_id for each in passed_over]))
