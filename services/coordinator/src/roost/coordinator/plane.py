"""The central plane: what workers say becomes facts for the decider, and what befell them is logged and counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from roost.cluster.errors import WorkerSuperseded, WorkerUnreachable
from roost.cluster.worker_state import WorkerState
from roost.coordinator.metrics import CoordinatorMetrics
from roost.coordinator.seldom import Seldom
from roost.coordinator.worker_streams import WorkerStreams
from roost.placement.effects import Changed, Effect, Life
from roost.placement.facts import Fact, Reported, SilenceJudged, Stopping, StreamEnded, StreamLost
from roost.service.logs import Logger
from roost.service.scheduler.shell import DeciderShell
from roost.service.scheduler.taps import Tap

WARN_EVERY_S: Final = 60.0  # of one worker: the loser of a shared name comes back every two seconds
NAME: Final = "the coordinator"
_QUIET: Final = {Life.JOINED, Life.RESTARTED, Life.RETURNED, Life.LEFT}


class LivesTap(Tap):
    """Logs what befell workers; `ended` is told of those that are dead, and how long they were silent."""

    def __init__(self, log: Logger, ended: Callable[[str, float], None]) -> None:
        self._log = log
        self._ended = ended

    def heard(self, fact: Fact, now: float, effects: Sequence[Effect]) -> None:
        del now
        for effect in effects:
            if isinstance(effect, Changed):
                self._tell(fact, effect)

    def _tell(self, fact: Fact, changed: Changed) -> None:
        node_id, life, silent_s = changed
        tell = self._log.info if life in _QUIET else self._log.warning
        tell(f"worker_{_WORDS[life]}", worker_id=node_id, **_details(fact, silent_s))
        if life is Life.DIED:
            self._ended(node_id, silent_s)


_WORDS: Final = {**{life: life.value for life in Life}, Life.DIED: "dead"}


def _details(fact: Fact, silent_s: float) -> dict[str, str | int | float]:
    if isinstance(fact, Reported):
        return {"epoch": fact.state.epoch, "address": fact.state.address}
    if isinstance(fact, SilenceJudged):
        return {"silent_s": round(silent_s, 1)}
    return {"why": "its stream ended"} if isinstance(fact, StreamLost) else {}


class CentralPlane:
    """Must be used from one event loop."""

    def __init__(self, shell: DeciderShell, streams: WorkerStreams, *, metrics: CoordinatorMetrics, log: Logger) -> None:
        self.shell = shell
        self._streams = streams
        self._metrics = metrics
        self._log = log
        self._warnings = Seldom(every_s=WARN_EVERY_S)

    # --- what workers say -------------------------------------------------------------------------

    def report(self, state: WorkerState, *, is_streamed: bool, stream: int = 0) -> bool:
        """False if something newer of the worker is known.

        Raises NoCapacity if the view is full, WorkerSuperseded if that is a later life, and this one came on a stream.
        """
        is_accepted = self.shell.hear(Reported(state, is_streamed, stream))
        self._metrics.reported(is_accepted=is_accepted)
        if not is_accepted and is_streamed and (later := self.shell.decider.later_epoch(state)):
            refusal = WorkerSuperseded(state.node_id, state.epoch, later)
            self._older_life(refusal)
            raise refusal
        return is_accepted

    def counting_bad_reports(self) -> contextlib.AbstractContextManager[object]:
        """Around the reading of a report."""
        return self._metrics.counting_bad_reports()

    def stream_lost(self, worker_id: str, epoch: int, stream: int) -> None:
        """The worker's current stream broke."""
        self.shell.hear(StreamLost(worker_id, epoch, stream))

    def stream_ended(self, worker_id: str, epoch: int, stream: int) -> None:
        """The worker itself ended its current stream."""
        self.shell.hear(StreamEnded(worker_id, epoch, stream))

    def _older_life(self, refusal: WorkerSuperseded) -> None:
        """An earlier life of a worker still reports: a second living process with its name, which would go unnoticed otherwise."""
        if self._warnings.allows(refusal.worker_id, self.shell.now):
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

    # --- time -------------------------------------------------------------------------------------

    def advance(self, *, expected_interval_s: float | None = None) -> None:
        """Lets the time that has passed take effect. `expected_interval_s`: after which the last call should have been followed by this."""
        self.shell.hear(SilenceJudged(expected_interval_s))
        self.shell.changes.announce()

    def measure(self) -> None:
        """Sets the gauges."""
        self._metrics.measure(self.shell.decider, self.shell.now)

    def stop(self) -> None:
        """Refuses whoever waits for a worker."""
        self.shell.hear(Stopping(NAME))
        self.shell.close()


def ends_streams(streams: WorkerStreams) -> Callable[[str, float], None]:
    """Ends the stream of a worker that is dead."""

    def end(worker_id: str, silent_s: float) -> None:
        streams.end(worker_id, WorkerUnreachable(worker_id, f"it sent no report for {silent_s:.1f} s"))

    return end
