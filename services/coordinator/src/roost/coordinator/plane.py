"""The central plane as its doors see it: `Central` with a clock, counted and logged from outside.

State: the requests that wait for a worker and the watchers that wait for a change; both are woken from here and nowhere else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from roost.cluster.errors import NoWorkers, RoostError, ServerStopping, WorkerUnreachable
from roost.cluster.view import LivenessChange
from roost.cluster.worker_state import Liveness, WorkerState
from roost.coordinator.central import Central, Mark, Reported
from roost.coordinator.metrics import CoordinatorMetrics
from roost.coordinator.streams import NAME
from roost.coordinator.waiting import WaitingRoom
from roost.coordinator.watching import Changes
from roost.coordinator.worker_streams import WorkerStreams
from roost.placement.decision import Decision
from roost.placement.request import PlacementRequest
from roost.service.logs import Logger

_EVENTS: Final = {
    Liveness.LIVE: "worker_returned",
    Liveness.SUSPECT: "worker_suspected",
    Liveness.DEAD: "worker_dead",
    None: "worker_forgotten",
}

Clock = Callable[[], float]
"""Monotonic seconds."""


class CentralPlane:
    """Must be used from one event loop."""

    def __init__(self, central: Central, streams: WorkerStreams, *, clock: Clock, metrics: CoordinatorMetrics, log: Logger) -> None:
        self.central = central
        self.changes = Changes()
        self._streams = streams
        self._waiting = WaitingRoom()
        self._clock = clock
        self._metrics = metrics
        self._log = log

    @property
    def now(self) -> float:
        return self._clock()

    # --- decisions --------------------------------------------------------------------------------

    def place_now(self, request: PlacementRequest) -> Decision | None:
        """The decision, or None if no worker can take the request and it may wait: then `place_later`.

        Raises UnknownModel, ModelTooLarge, DeadlineImpossible, and NoWorkers if it may not wait.
        """
        try:
            return self._decide(request)
        except NoWorkers as refusal:
            if request.may_queue:
                return None
            self._metrics.refused(refusal)
            raise
        except RoostError as refusal:
            self._metrics.refused(refusal)
            raise

    async def place_later(self, request: PlacementRequest) -> Decision:
        """Waits for a worker. Raises NoWorkers (none in time), NoCapacity (too many wait), ServerStopping, and what a decision raises."""
        try:
            return await self._waiting.wait(request, self._clock())
        except RoostError as refusal:
            self._metrics.refused(refusal)
            raise

    async def place(self, request: PlacementRequest) -> Decision:
        """`place_now`, else `place_later`."""
        return self.place_now(request) or await self.place_later(request)

    def _decide(self, request: PlacementRequest) -> Decision:
        started = self._clock()
        decision = self.central.decide(request, started)
        self._metrics.decided(decision, self._clock() - started)
        self.changes.announce()
        return decision

    # --- what workers say -------------------------------------------------------------------------

    def report(self, state: WorkerState, *, is_streamed: bool, stream: int = 0) -> Reported:
        """Raises NoCapacity if the view is full."""
        now = self._clock()
        reported = self.central.report(state, now, is_streamed=is_streamed, stream=stream)
        self._metrics.reported(is_accepted=reported.is_accepted)
        if reported.change is not None:
            self._log.info(reported.change.value, worker_id=state.node_id, epoch=state.epoch, address=state.address)
        if reported.has_opened and self._waiting:
            self._waiting.admit(lambda request: self.central.may_take(state.node_id, request), self._decide, now)
        if reported.is_accepted:
            self.changes.announce()
        return reported

    def counting_bad_reports(self) -> contextlib.AbstractContextManager[object]:
        """Around the reading of a report."""
        return self._metrics.counting_bad_reports()

    def stream_lost(self, worker_id: str, epoch: int, stream: int) -> None:
        """The worker's current stream ended."""
        if self.central.stream_lost(worker_id, epoch, self._clock(), stream=stream):
            self._log.warning("worker_suspected", worker_id=worker_id, why="its stream ended")
            self.changes.announce()

    # --- time -------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Lets the time that has passed take effect."""
        for change in self.central.advance(self._clock()):
            self._log_silence(change)
            if change.after is Liveness.DEAD:
                self._streams.end(change.node_id, WorkerUnreachable(change.node_id, f"it sent no report for {change.silent_s:.1f} s"))
        self.changes.announce()

    def measure(self) -> None:
        """Sets the gauges."""
        self._metrics.measure(self.central, self._clock())

    def _log_silence(self, change: LivenessChange) -> None:
        self._log.warning(_EVENTS[change.after], worker_id=change.node_id, silent_s=round(change.silent_s, 1))

    async def changed_since(self, mark: Mark) -> None:
        """Returns when a watcher would see something that is not in the state of that mark."""
        await self.changes.until(lambda: self.central.mark != mark)

    def stop(self) -> None:
        """Refuses whoever waits for a worker."""
        self._waiting.refuse_all(ServerStopping(NAME), self._clock())

    def __repr__(self) -> str:
        return f"<CentralPlane {self.central!r} {self._waiting!r} {self.changes!r}>"
