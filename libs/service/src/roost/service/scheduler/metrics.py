"""What a decider measures of its decisions, whichever plane it decides on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from roost.cluster.errors import RoostError
from roost.cluster.names import PRIORITIES
from roost.placement.decision import Action, Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered, Effect
from roost.placement.facts import Fact
from roost.placement.request import PlacementRequest
from roost.service.scheduler.taps import Tap
from roost.service.tallies import CounterTally, HistogramTally

# A decision costs from under a microsecond (an index) to milliseconds (a scan of 10,000 workers).
DECISION_BUCKETS_S: Final = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)

# Up to the longest that a decider lets a request wait.
WAIT_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_SERVE: Final = Action.SERVE  # an enum's members are looked up, and hashed, in Python: worth avoiding for each decision


class DecisionMetrics(Tap):
    """State: the collectors, registered once. `policy` is the label of every decision."""

    def __init__(self, registry: CollectorRegistry, policy: str) -> None:
        decisions = CounterTally("roost_decisions", "Requests given a worker, by what it will do.", ["policy", "action"], registry)
        self._decisions = {action: decisions.series(policy, action.value) for action in Action}
        self._served = self._decisions[_SERVE]
        self._refusals = Counter("roost_refusals", "Requests given no worker, by reason.", ["reason"], registry=registry)
        self._decision_seconds = HistogramTally(
            "roost_decision_seconds",
            "Time one decision took, without the call around it.",
            registry,
            bounds=DECISION_BUCKETS_S,
        ).series()

        waits = Histogram(
            "roost_decider_wait_seconds",
            "Time requests waited in the decider before they were bound to a worker; without those decided at once.",
            ["priority"],
            buckets=WAIT_BUCKETS_S,
            registry=registry,
        )
        self._waits = [waits.labels(priority) for priority in range(PRIORITIES)]
        self._recording = Gauge("roost_recording", "1 while decisions are written to the file of --record.", registry=registry)
        self._recorded_bytes = Counter("roost_recorded_bytes", "Bytes written to the file of --record.", registry=registry)

    def recorded(self, is_on: bool, more_bytes: int) -> None:  # noqa: FBT001  # whoever writes tells both
        """The recording goes on or has ended; may be called from any thread."""
        self._recording.set(is_on)
        self._recorded_bytes.inc(more_bytes)

    def asked(self, request: PlacementRequest, now: float, answer: Decision | Ticket | RoostError, elapsed_s: float) -> None:
        del request, now
        if type(answer) is Decision:
            (self._served if answer.action is _SERVE else self._decisions[answer.action]).count()
            self._decision_seconds.observe(elapsed_s)
        elif isinstance(answer, RoostError):
            self._refusals.labels(answer.reason).inc()

    def heard(self, fact: Fact, now: float, effects: Sequence[Effect]) -> None:
        del fact
        if effects:
            self.rang(now, effects)

    def rang(self, now: float, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Answered):
                self._answered(effect, now)

    def _answered(self, answered: Answered, now: float) -> None:
        """A request that waited was bound, or refused."""
        ticket, result = answered
        if isinstance(result, RoostError):
            self._refusals.labels(result.reason).inc()
            return
        self._waits[ticket.request.priority].observe(now - ticket.since)
        self._decisions[result.action].count()
