"""The decider's parts, writing down what they are told and what they answer. Without a recording the plain parts are used, at no cost.

State: where it is written to, the numbers of those who wait, and the number given last. Invariant: whatever changes what is decided passes
through here, in its order. A recording begins with a snapshot from which the decider itself goes on, too (`Placer.go_on`): so whoever
reads it needs nothing that the snapshot leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from roost.cluster.errors import RoostError
from roost.cluster.view import Applied, ClusterView, LivenessChange
from roost.cluster.worker_state import DecisionOutcome, Liveness, WorkerState
from roost.placement.decision import Decision
from roost.placement.dispatcher import Bound, Dispatcher, Waiter
from roost.placement.placer import Placer
from roost.placement.recording.events import (
    Answer,
    BeganToWait,
    Beginning,
    Event,
    Forgotten,
    GaveUp,
    Judged,
    LeftByItself,
    NumberedWaiter,
    Placed,
    Refusal,
    Reported,
    Seen,
    Settled,
    SilenceJudged,
    StreamLost,
    Terms,
    TimePassed,
    WaitingLine,
    WasBound,
)
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng

Put = Callable[[Event], None]
Sink = Callable[[Beginning | Event], bool]
"""Takes what is to be written, in order. True: the recording should begin anew now, in another file."""
FreshChance = Callable[[], tuple[int, Rng]]
"""A seed that nobody has used, and the chance that comes of it."""


class RecordedView(ClusterView):
    put: Put

    def apply(self, state: WorkerState, now: float, *, is_streamed: bool, stream: int = 0) -> Applied:
        try:
            return super().apply(state, now, is_streamed=is_streamed, stream=stream)
        finally:  # a full table refuses, and is the later for it
            self.put(Reported(state, now, is_streamed, stream))

    def stream_lost(self, node_id: str, epoch: int, now: float, *, stream: int = 0) -> bool:
        is_changed = super().stream_lost(node_id, epoch, now, stream=stream)
        self.put(StreamLost(node_id, epoch, now, stream))
        return is_changed

    def judge(self, node_id: str, liveness: Liveness, now: float) -> bool:
        is_changed = super().judge(node_id, liveness, now)
        self.put(Judged(node_id, liveness, now))
        return is_changed

    def forget(self, node_id: str) -> bool:
        is_changed = super().forget(node_id)
        self.put(Forgotten(node_id))
        return is_changed

    def leave(self, node_id: str, epoch: int, stream: int) -> bool:
        is_changed = super().leave(node_id, epoch, stream)
        self.put(LeftByItself(node_id, epoch, stream))
        return is_changed

    def advance(self, now: float, *, expected_interval_s: float | None = None) -> list[LivenessChange]:
        changes = super().advance(now, expected_interval_s=expected_interval_s)
        self.put(SilenceJudged(now, expected_interval_s))
        return changes


class RecordedPlacer(Placer):
    """Decides only through its dispatcher, which writes the decisions down."""

    put: Put

    def settle(self, node_id: str, outcomes: Iterable[DecisionOutcome], now: float) -> None:
        outcomes = tuple(outcomes)
        super().settle(node_id, outcomes, now)
        self.put(Settled(node_id, outcomes, now))

    def seen(self, node_id: str, made_before: float) -> None:
        super().seen(node_id, made_before)
        self.put(Seen(node_id, made_before))

    def advance(self, now: float) -> None:
        super().advance(now)
        self.put(TimePassed(now))


class RecordedDispatcher(Dispatcher):
    """`numbers` are those of the waiters."""

    put: Put
    numbers: dict[Waiter, int]
    given: int

    def place(self, request: PlacementRequest, now: float) -> Decision | None:
        try:
            decision = super().place(request, now)
        except RoostError as error:
            self.put(Placed(request, now, Refusal.of(error)))
            raise
        self.put(Placed(request, now, decision))
        return decision

    def wait(self, request: PlacementRequest, now: float) -> Waiter:
        try:
            waiter = super().wait(request, now)
        except RoostError as error:
            self.put(BeganToWait(request, now, 0, Refusal.of(error)))
            raise
        self.given += 1
        self.numbers[waiter] = self.given
        self.put(BeganToWait(request, now, self.given, None))
        return waiter

    def take_out(self, waiter: Waiter) -> bool:
        is_out = super().take_out(waiter)
        number = self.numbers.pop(waiter, 0)
        if is_out:
            self.put(GaveUp(number))
        return is_out

    def bind(self, now: float, changed: str = "", *, has_opened: bool = False) -> list[Bound]:
        if not len(self):
            return []
        bound = super().bind(now, changed, has_opened=has_opened)
        self.put(WasBound(now, changed, has_opened, tuple((self.numbers.pop(waiter), _answer(result)) for waiter, result in bound)))
        return bound


class Journal:
    """What a service makes its recorded parts with."""

    def __init__(self, sink: Sink, fresh_chance: FreshChance, *, plane: str, wall_offset_s: float) -> None:
        """`wall_offset_s`: wall clock minus the decider's clock."""
        self._sink = sink
        self._fresh_chance = fresh_chance
        self._plane = plane
        self._wall_offset_s = wall_offset_s

    def begin(self, view: ClusterView, placer: Placer, *, can_tell: bool) -> RecordedDispatcher:
        """The dispatcher; from now on everything is written down. Raises TypeError unless both were made to be recorded."""
        if not isinstance(view, RecordedView) or not isinstance(placer, RecordedPlacer):
            raise TypeError("a journal records a RecordedView and a RecordedPlacer")
        dispatcher = RecordedDispatcher(placer, can_tell=can_tell)
        dispatcher.numbers, dispatcher.given = {}, 0
        self._terms = Terms(
            policy=placer.policy,
            decider=placer.decider,
            plane=self._plane,
            is_view_shared=placer.is_view_shared,
            can_tell=can_tell,
            reservation_bound_s=placer.reservation_bound_s,
            remember=0 if placer.records is None else placer.records.capacity,
            wall_offset_s=self._wall_offset_s,
        )
        self._parts = (view, placer, dispatcher)
        view.put = placer.put = dispatcher.put = self._put
        self._begin_file()
        return dispatcher

    def _put(self, event: Event) -> None:
        if self._sink(event):
            self._begin_file()

    def _begin_file(self) -> None:
        view, placer, dispatcher = self._parts
        seed, rng = self._fresh_chance()
        known, lines = placer.snapshot(), dispatcher.snapshot()
        numbers = dispatcher.numbers
        numbered = tuple(
            WaitingLine(
                tuple(NumberedWaiter(numbers[each], each.request, each.since, each.found_ready) for each in line.waiters),
                line.retry_at,
                line.is_stuck,
            )
            for line in lines
        )
        placer.go_on(known, rng)
        dispatcher.go_on(lines)
        self._sink(Beginning(self._terms, seed, view.snapshot(), known, numbered))


def _answer(result: Decision | RoostError) -> Answer:
    return Refusal.of(result) if isinstance(result, RoostError) else result
