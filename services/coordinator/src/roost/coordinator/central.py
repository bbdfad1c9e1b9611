"""The cluster as the coordinator knows it, and the decisions it makes of that. No IO, no clock, no wire types.

State: the view of the workers and the placer's reservations and statistics, both owned here and nowhere else. Invariants: outcomes
are settled only from reports that the view accepted; every method takes the time (monotonic seconds) and returns what happened.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from roost.cluster.view import Applied, ClusterView, LivenessChange, WorkerEntry
from roost.cluster.worker_entry import room_bytes
from roost.cluster.worker_state import WorkerState
from roost.placement.decision import Decision
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest
from roost.service.scheduler.plane import Mark, mark_of


class Change(enum.Enum):
    """What one report changed in the worker's life; the value is the log event."""

    JOINED = "worker_joined"  # never seen before
    RESTARTED = "worker_restarted"  # a later life of a known worker
    RETURNED = "worker_returned"  # it was suspect or dead


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of one report. `later_epoch` is the known one that makes the report's life a past one, 0 if none does.

    `has_opened` is true if requests that found no worker before might find this one now.
    """

    is_accepted: bool
    change: Change | None = None
    has_opened: bool = False
    later_epoch: int = 0


class Central:
    """Owned by one thread."""

    def __init__(self, view: ClusterView, placer: Placer) -> None:
        self.view = view
        self.placer = placer

    def decide(self, request: PlacementRequest, now: float) -> Decision:
        """Raises UnknownModel, NoWorkers, ModelTooLarge, DeadlineImpossible."""
        return self.placer.decide(request, now)

    def report(self, state: WorkerState, now: float, *, is_streamed: bool, stream: int = 0) -> Reported:
        """Raises NoCapacity if the table is full of workers that are not dead."""
        before = self.view.entries.get(state.node_id)
        applied = self.view.apply(state, now, is_streamed=is_streamed, stream=stream)
        if not applied.is_accepted:
            known_epoch = applied.entry.state.epoch
            return Reported(is_accepted=False, later_epoch=known_epoch if known_epoch > state.epoch else 0)
        self.placer.settle(state.node_id, state.outcomes, now)
        was_draining = before is not None and before.state.is_draining
        has_more_room = before is not None and room_bytes(state) > room_bytes(before.state)
        is_wider = applied.became_live or was_draining or has_more_room or state.catalogue is not None
        return Reported(is_accepted=True, change=_change(before, applied), has_opened=is_wider and not state.is_draining)

    def stream_lost(self, worker_id: str, epoch: int, now: float, *, stream: int = 0) -> bool:
        """True if the worker became suspect by it."""
        return self.view.stream_lost(worker_id, epoch, now, stream=stream)

    def stream_ended(self, worker_id: str, epoch: int, *, stream: int) -> bool:
        """The worker itself ended its stream: true if it has left by that, and is forgotten."""
        return self.view.leave(worker_id, epoch, stream)

    def advance(self, now: float, *, expected_interval_s: float | None = None) -> list[LivenessChange]:
        """Lets time pass: reservations expire, silent workers are suspected and die, long dead ones are forgotten.

        `expected_interval_s` since the last call: what is later than that by seconds is this process standing still, not workers' silence.
        """
        self.placer.advance(now)
        return self.view.advance(now, expected_interval_s=expected_interval_s)

    def refresh(self, now: float) -> None:
        """Reports are taken in as they come: nothing was put off."""

    def may_take(self, worker_id: str, request: PlacementRequest) -> bool:
        """True if `worker_id` takes requests now and could run this one."""
        return self.placer.may_take(worker_id, request.model, request.excluded)

    @property
    def mark(self) -> Mark:
        """Differs from an earlier one if and only if something that a watcher sees has changed."""
        return mark_of(self.view, self.placer)

    def __repr__(self) -> str:
        return f"<Central {self.view!r} {self.placer!r}>"


def _change(before: WorkerEntry | None, applied: Applied) -> Change | None:
    if before is None:
        return Change.JOINED
    if applied.is_new_epoch:
        return Change.RESTARTED
    return Change.RETURNED if applied.became_live else None
