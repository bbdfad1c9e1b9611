"""A decider as its doors see it: a view and a placer with a clock, counted from outside.

State: the requests that wait for a worker and the watchers that wait for a change; both are woken from here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from roost.cluster.errors import RoostError, ServerStopping, UnknownRequest
from roost.cluster.view import ClusterView
from roost.placement.decision import Decision
from roost.placement.dispatcher import Dispatcher
from roost.placement.placer import Placer
from roost.placement.recording.recorded import Journal
from roost.placement.records import DecisionRecord
from roost.placement.request import PlacementRequest
from roost.service.scheduler.metrics import DecisionMetrics
from roost.service.scheduler.waiting import WaitingRoom
from roost.service.scheduler.watching import Changes

Clock = Callable[[], float]
"""Monotonic seconds."""

Mark = tuple[int, int, int, int, int, int]


class Knowledge(Protocol):
    """What a plane knows of the cluster and decides from; the coordinator's is fed by reports, a sidecar's by gossip."""

    @property
    def view(self) -> ClusterView: ...

    @property
    def placer(self) -> Placer: ...

    def refresh(self, now: float) -> None:
        """Bring the view up to `now`, where that was put off until somebody looks."""


def mark_of(view: ClusterView, placer: Placer) -> Mark:
    """Differs from an earlier one if and only if something that a watcher sees has changed."""
    counts = placer.statistics
    return (view.version, placer.reservations, counts.total_requests, counts.hits, counts.cold_starts, counts.joins)


class SchedulingPlane:
    """Must be used from one event loop. `name` says in refusals who is stopping; `copy` has a worker load a model for those who wait;
    `journal` records what it decides.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        *,
        name: str,
        clock: Clock,
        metrics: DecisionMetrics,
        copy: Callable[[str, str], None] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.changes = Changes()
        self._knowledge = knowledge
        self._name = name
        view, placer, can_tell = knowledge.view, knowledge.placer, copy is not None
        self._dispatcher = Dispatcher(placer, can_tell=can_tell) if journal is None else journal.begin(view, placer, can_tell=can_tell)
        self._have_copied = copy
        self._waiting = WaitingRoom(self._dispatcher, self._bind)
        self._clock = clock
        self._decisions = metrics

    @property
    def now(self) -> float:
        return self._clock()

    @property
    def view(self) -> ClusterView:
        """The view as of now."""
        self._knowledge.refresh(self._clock())
        return self._knowledge.view

    @property
    def placer(self) -> Placer:
        return self._knowledge.placer

    @property
    def mark(self) -> Mark:
        """Differs from an earlier one if and only if something that a watcher sees has changed."""
        return mark_of(self.view, self.placer)

    def place_now(self, request: PlacementRequest) -> Decision | None:
        """The decision, or None if the request had better wait for a worker and may: then `place_later`.

        Raises UnknownModel, ModelTooLarge, DeadlineImpossible, and NoWorkers if it may not wait.
        """
        started = self._clock()
        self._knowledge.refresh(started)
        try:
            decision = self._dispatcher.place(request, started)
        except RoostError as refusal:
            self._refused(request, refusal)
            raise
        if decision is not None:
            self._decided(decision, started)
        else:
            self._make_copies()
        return decision

    def _make_copies(self) -> None:
        """Those that became wanted while requests were told to wait."""
        if self._have_copied is not None:
            for worker_id, model in self._dispatcher.take_copies():
                self._have_copied(worker_id, model)

    async def place_later(self, request: PlacementRequest) -> Decision:
        """Waits for a worker. Raises NoWorkers (none in time), NoCapacity (too many wait), ServerStopping, and what a decision raises."""
        try:
            return await self._waiting.answer(self._waiting.enter(request, self._clock()))
        except RoostError as refusal:
            self._refused(request, refusal)
            raise

    def _refused(self, request: PlacementRequest, refusal: RoostError) -> None:
        self._decisions.refused(refusal)
        records = self.placer.records
        if records is not None:
            records.refused(request, refusal, self._clock())

    def explain(self, request_id: str) -> tuple[DecisionRecord, ...]:
        """Every decision on that request that is remembered, in order. Raises UnknownRequest."""
        records = self.placer.records
        found = () if records is None else records.of(request_id)
        if not found:
            raise UnknownRequest(request_id, 0 if records is None else records.capacity)
        return found

    async def place(self, request: PlacementRequest) -> Decision:
        """`place_now`, else `place_later`."""
        return self.place_now(request) or await self.place_later(request)

    def _decided(self, decision: Decision, started: float) -> None:
        self._decisions.decided(decision, self._clock() - started)
        self.changes.announce()

    @property
    def has_waiting(self) -> bool:
        """Whether requests wait for a worker."""
        return bool(self._waiting)

    def admit_to(self, worker_id: str) -> None:
        """The worker takes requests now that it may not have taken before: those that wait for one like it are decided."""
        self._bind(worker_id, has_opened=True)

    def heard_of(self, worker_id: str) -> None:
        """The worker reported: it may have room for those who wait for it."""
        self._bind(worker_id)

    def _bind(self, worker_id: str = "", *, has_opened: bool = False) -> None:
        if not self._waiting:
            return
        started = now = self._clock()
        self._knowledge.refresh(started)
        bound = self._dispatcher.bind(started, worker_id, has_opened=has_opened)
        self._waiting.tell(bound)
        self._make_copies()
        for waiter, result in bound:
            if isinstance(result, Decision):
                self._decisions.waited(waiter.request.priority, now - waiter.since)
                self._decided(result, started)
                started = self._clock()
        self._waiting.set_timer(self._clock())

    async def changed_since(self, mark: Mark) -> None:
        """Returns when a watcher would see something that is not in the state of that mark."""
        await self.changes.until(lambda: self.mark != mark)

    def stop(self) -> None:
        """Refuses whoever waits for a worker."""
        self._waiting.refuse_all(ServerStopping(self._name))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._knowledge!r} {self._waiting!r} {self.changes!r}>"
