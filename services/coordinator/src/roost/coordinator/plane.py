"""The central plane as its doors see it: `Central` with a clock, counted and logged from outside."""

from __future__ import annotations

import contextlib
from typing import Final

from roost.cluster.errors import WorkerUnreachable
from roost.cluster.view import LivenessChange
from roost.cluster.worker_state import Liveness, WorkerState
from roost.coordinator.central import Central, Reported
from roost.coordinator.metrics import CoordinatorMetrics
from roost.coordinator.worker_streams import WorkerStreams
from roost.service.logs import Logger
from roost.service.scheduler.plane import Clock, SchedulingPlane

NAME: Final = "the coordinator"
_EVENTS: Final = {
    Liveness.LIVE: "worker_returned",
    Liveness.SUSPECT: "worker_suspected",
    Liveness.DEAD: "worker_dead",
    None: "worker_forgotten",
}


class CentralPlane(SchedulingPlane):
    """Must be used from one event loop."""

    def __init__(self, central: Central, streams: WorkerStreams, *, clock: Clock, metrics: CoordinatorMetrics, log: Logger) -> None:
        super().__init__(central, name=NAME, clock=clock, metrics=metrics)
        self.central = central
        self._streams = streams
        self._metrics = metrics
        self._log = log

    # --- what workers say -------------------------------------------------------------------------

    def report(self, state: WorkerState, *, is_streamed: bool, stream: int = 0) -> Reported:
        """Raises NoCapacity if the view is full."""
        now = self._clock()
        reported = self.central.report(state, now, is_streamed=is_streamed, stream=stream)
        self._metrics.reported(is_accepted=reported.is_accepted)
        if reported.change is not None:
            self._log.info(reported.change.value, worker_id=state.node_id, epoch=state.epoch, address=state.address)
        if reported.has_opened:
            self.admit_to(state.node_id)
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
