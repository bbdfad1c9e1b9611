"""A decider made again from a recording's beginning, that is told what the recorded one was told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from roost.cluster.errors import NoWorkers, RoostError
from roost.cluster.view import ClusterView
from roost.placement.dispatcher import Bound, Dispatcher, LineSnapshot, Waiter
from roost.placement.placer import Placer
from roost.placement.recording import events
from roost.placement.records import DecisionRecords
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng

MakeRng = Callable[[int], Rng]
"""The chance that comes of a seed: `random.Random`, as the recorded decider had it."""


class Decider:
    """State: a view, a placer and a dispatcher of its own, and those who wait by their numbers, and the time of what it heard last."""

    def __init__(self, beginning: events.Beginning, make_rng: MakeRng, *, policy: str = "", records: DecisionRecords | None = None) -> None:
        """`policy`: another one than the recorded. Raises InvalidField if there is no such policy (any more)."""
        terms = beginning.terms
        rng = make_rng(beginning.seed)
        self.records = records
        self._now = beginning.placer.now
        self.view = ClusterView.restored(beginning.view)
        self.placer = Placer(
            self.view,
            policy or terms.policy,
            rng=rng,
            decider=terms.decider,
            reservation_bound_s=terms.reservation_bound_s,
            is_view_shared=terms.is_view_shared,
            records=records,
        )
        self.placer.go_on(beginning.placer, make_rng(beginning.seed))
        self.dispatcher = Dispatcher(self.placer, can_tell=terms.can_tell)
        self.waiters: dict[int, Waiter] = {}
        self.dispatcher.go_on(self._line(line) for line in beginning.lines)

    def _line(self, line: events.WaitingLine) -> LineSnapshot:
        waiters = {each.number: Waiter(each.request, each.since, each.found_ready) for each in line.waiters}
        self.waiters |= waiters
        return LineSnapshot(tuple(waiters.values()), line.retry_at, line.is_stuck)

    # --- what it is told --------------------------------------------------------------------------

    def hear(self, event: events.Event) -> bool:
        """Tell the view or the placer. False for an event that asks the dispatcher."""
        self._now = getattr(event, "now", self._now)
        match event:
            case events.Reported(state, now, is_streamed, stream):
                with suppress(RoostError):
                    self.view.apply(state, now, is_streamed=is_streamed, stream=stream)
            case events.StreamLost(node_id, epoch, now, stream):
                self.view.stream_lost(node_id, epoch, now, stream=stream)
            case events.Judged(node_id, liveness, now):
                self.view.judge(node_id, liveness, now)
            case events.Forgotten(node_id):
                self.view.forget(node_id)
            case events.LeftByItself(node_id, epoch, stream):
                self.view.leave(node_id, epoch, stream)
            case events.SilenceJudged(now, expected_interval_s):
                self.view.advance(now, expected_interval_s=expected_interval_s)
            case events.Settled(node_id, outcomes, now):
                self.placer.settle(node_id, outcomes, now)
            case events.Seen(node_id, made_before):
                self.placer.seen(node_id, made_before)
            case events.TimePassed(now):
                self.placer.advance(now)
            case _:
                return False
        return True

    # --- what it is asked -------------------------------------------------------------------------

    def place(self, request: PlacementRequest, now: float) -> events.Answer | None:
        try:
            return self.dispatcher.place(request, now)
        except RoostError as error:
            return self._refused(request, error, now)

    def wait(self, request: PlacementRequest, now: float, number: int) -> events.Refusal | None:
        """`number`: by which the waiter is known from now on."""
        try:
            self.waiters[number] = self.dispatcher.wait(request, now)
        except RoostError as error:
            return self._refused(request, error, now)
        return None

    def give_up(self, number: int) -> bool:
        """False if it does not wait (any more)."""
        waiter = self.waiters.pop(number, None)
        if waiter is None or not self.dispatcher.take_out(waiter):
            return False
        if self.records is not None:
            waited_s = self._now - waiter.since
            self.records.refused(waiter.request, NoWorkers(f"it gave up after about {waited_s:.1f} s of waiting for a worker"), self._now)
        return True

    def bind(self, now: float, changed: str, *, has_opened: bool) -> tuple[tuple[int, events.Answer], ...]:
        bound = self.dispatcher.bind(now, changed, has_opened=has_opened)
        if not bound:
            return ()
        numbers = {waiter: number for number, waiter in self.waiters.items()}
        return tuple((self._number(numbers, each), self._answer(each, now)) for each in bound)

    def _number(self, numbers: dict[Waiter, int], bound: Bound) -> int:
        number = numbers[bound.waiter]
        del self.waiters[number]
        return number

    def _answer(self, bound: Bound, now: float) -> events.Answer:
        result = bound.result
        return self._refused(bound.waiter.request, result, now) if isinstance(result, RoostError) else result

    def _refused(self, request: PlacementRequest, error: RoostError, now: float) -> events.Refusal:
        if self.records is not None:
            self.records.refused(request, error, now)
        return events.Refusal.of(error)

    def __repr__(self) -> str:
        return f"<Decider {self.placer!r}, {self.dispatcher!r}>"
