"""The central plane as its doors see it: `Central` with a clock, counted and logged from outside."""

from __future__ import annotations

import contextlib
from typing import Final

from roost.cluster.errors import WorkerSuperseded, WorkerUnreachable
from roost.cluster.view import LivenessChange
from roost.cluster.worker_state import Liveness, WorkerState
from roost.coordinator.central import Central, Reported
from roost.coordinator.metrics import CoordinatorMetrics
from roost.coordinator.seldom import Seldom
from roost.coordinator.worker_streams import WorkerStreams
from roost.placement.recording.recorded import Journal
from roost.service.logs import Logger
from roost.service.operating.commands import LoadModel
from roost.service.scheduler.plane import Clock, SchedulingPlane

WARN_EVERY_S: Final = 60.0  # of one worker: the loser of a shared name comes back every two seconds
NAME: Final = "the coordinator"
_EVENTS: Final = {
    Liveness.LIVE: "worker_returned",
    Liveness.SUSPECT: "worker_suspected",
    Liveness.DEAD: "worker_dead",
    None: "worker_forgotten",
}


class CentralPlane(SchedulingPlane):
    """Must be used from one event loop."""

    def __init__(
        self,
        central: Central,
        streams: WorkerStreams,
        *,
        clock: Clock,
        metrics: CoordinatorMetrics,
        log: Logger,
        journal: Journal | None = None,
    ) -> None:
        super().__init__(central, name=NAME, clock=clock, metrics=metrics, copy=self._copy, journal=journal)
        self.central = central
        self._streams = streams
        self._metrics = metrics
        self._log = log
        self._warnings = Seldom(every_s=WARN_EVERY_S)

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
        elif reported.is_accepted:
            self.heard_of(state.node_id)
        if reported.is_accepted:
            self.changes.announce()
        return reported

    def counting_bad_reports(self) -> contextlib.AbstractContextManager[object]:
        """Around the reading of a report."""
        return self._metrics.counting_bad_reports()

    def stream_lost(self, worker_id: str, epoch: int, stream: int) -> None:
        """The worker's current stream broke."""
        if self.central.stream_lost(worker_id, epoch, self._clock(), stream=stream):
            self._log.warning("worker_suspected", worker_id=worker_id, why="its stream ended")
            self.changes.announce()

    def stream_ended(self, worker_id: str, epoch: int, stream: int) -> None:
        """The worker itself ended its current stream: as it does when it stops, else it is lost all the same."""
        if self.central.stream_ended(worker_id, epoch, stream=stream):
            self._log.info("worker_left", worker_id=worker_id, epoch=epoch)
            self.changes.announce()
        else:
            self.stream_lost(worker_id, epoch, stream)

    def older_life(self, refusal: WorkerSuperseded) -> None:
        """An earlier life of a worker still reports: a second living process with its name, which would go unnoticed otherwise."""
        if self._warnings.allows(refusal.worker_id, self._clock()):
            self._log.warning(
                "worker_superseded",
                worker_id=refusal.worker_id,
                epoch=refusal.epoch,
                later_epoch=refusal.current_epoch,
                fix="two living workers share this name, and only the one that started last is used: give each its own --node-id",
            )

    def counting_superseded(self) -> contextlib.AbstractContextManager[object]:
        """Around a worker's stream: counts it if a newer one took its place."""
        return self._metrics.counting_superseded()

    # --- what workers are told ----------------------------------------------------------------------

    def _copy(self, worker_id: str, model: str) -> None:
        """The worker should load the model for those who wait. Where it has no stream, or says no, they go where there is room."""
        try:
            is_told = self._streams.get(worker_id).tell(LoadModel(model))
        except WorkerUnreachable:
            is_told = False
        self._log.info("copy_wanted", worker_id=worker_id, model=model, is_told=is_told)

    # --- time -------------------------------------------------------------------------------------

    def advance(self, *, expected_interval_s: float | None = None) -> None:
        """Lets the time that has passed take effect. `expected_interval_s`: after which the last call should have been followed by this."""
        for change in self.central.advance(self._clock(), expected_interval_s=expected_interval_s):
            self._log_silence(change)
            if change.after is Liveness.DEAD:
                self._streams.end(change.node_id, WorkerUnreachable(change.node_id, f"it sent no report for {change.silent_s:.1f} s"))
        self.changes.announce()

    def measure(self) -> None:
        """Sets the gauges."""
        self._metrics.measure(self.central, self._clock())

    def _log_silence(self, change: LivenessChange) -> None:
        self._log.warning(_EVENTS[change.after], worker_id=change.node_id, silent_s=round(change.silent_s, 1))
