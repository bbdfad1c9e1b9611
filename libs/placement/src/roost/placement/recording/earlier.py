"""Recordings of format 1: what was done to a decider's parts, one by one. They are read and replayed, and written no more.

The parts are told as they were; for a comparison, what happened is told as it would be written today (`as_today`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final, NamedTuple

from roost.cluster.errors import NoWorkers, RoostError
from roost.cluster.worker_state import DecisionOutcome, Liveness, WorkerState
from roost.placement import facts
from roost.placement.decider import Decider
from roost.placement.dispatcher import Ticket
from roost.placement.recording import events
from roost.placement.recording.events import Answer, Refusal
from roost.placement.recording.retelling import Told
from roost.placement.request import PlacementRequest

FORMAT: Final = 1

# --- the view is told ----------------------------------------------------------------------------------


class Reported(NamedTuple):
    """`ClusterView.apply`."""

    state: WorkerState
    now: float
    is_streamed: bool
    stream: int


class StreamLost(NamedTuple):
    """`ClusterView.stream_lost`."""

    node_id: str
    epoch: int
    now: float
    stream: int


class Judged(NamedTuple):
    """`ClusterView.judge`."""

    node_id: str
    liveness: Liveness
    now: float


class Forgotten(NamedTuple):
    """`ClusterView.forget`."""

    node_id: str


class LeftByItself(NamedTuple):
    """`ClusterView.leave`."""

    node_id: str
    epoch: int
    stream: int


class SilenceJudged(NamedTuple):
    """`ClusterView.advance`."""

    now: float
    expected_interval_s: float | None


# --- the placer is told --------------------------------------------------------------------------------


class Settled(NamedTuple):
    """`Placer.settle`."""

    node_id: str
    outcomes: tuple[DecisionOutcome, ...]
    now: float


class Seen(NamedTuple):
    """`Placer.seen`."""

    node_id: str
    made_before: float


class TimePassed(NamedTuple):
    """`Placer.advance`."""

    now: float


# --- the dispatcher is asked ---------------------------------------------------------------------------


class Placed(NamedTuple):
    """`Dispatcher.place`; None: the request had better wait."""

    request: PlacementRequest
    now: float
    answer: Answer | None


class BeganToWait(NamedTuple):
    """`Dispatcher.wait`. The waiter's number names it from now on; 0 where there was no room, and `refusal` says so."""

    request: PlacementRequest
    now: float
    number: int
    refusal: Refusal | None


class GaveUp(NamedTuple):
    """`Dispatcher.take_out` of one that still waited."""

    number: int


class WasBound(NamedTuple):
    """`Dispatcher.bind`, with each waiter that was answered, by its number."""

    now: float
    changed: str
    has_opened: bool
    answers: tuple[tuple[int, Answer], ...]


Event = (
    Reported
    | StreamLost
    | Judged
    | Forgotten
    | LeftByItself
    | SilenceJudged
    | Settled
    | Seen
    | TimePassed
    | Placed
    | BeganToWait
    | GaveUp
    | WasBound
)


KINDS: Final = (
    Reported, StreamLost, Judged, Forgotten, LeftByItself, SilenceJudged, Settled, Seen, TimePassed, Placed, BeganToWait, GaveUp, WasBound,
)  # fmt: skip


class EarlierRetelling:
    """Tells a decider's parts what they were told. State: the tickets of those who wait, by their numbers."""

    def __init__(self, decider: Decider, beginning: events.Beginning) -> None:
        self._decider = decider
        self._numbers = {ticket: ticket.number for line in beginning.state.lines for ticket in line.tickets}
        self._now = beginning.state.placer.now

    def tell(self, event: Event) -> list[Told]:
        """The next one: what both answered, in order."""
        self._now = getattr(event, "now", self._now)
        match event:
            case Placed(request, now, answer):
                return [Told(request.request_id, answer, self._place(request, now))]
            case BeganToWait(request, now, number, refusal):
                return [Told(request.request_id, refusal, self._wait(request, now, number))]
            case GaveUp(number):
                self._give_up(number)
                return []
            case WasBound():
                return self._bind(event)
            case _:
                self._hear(event)
                return []

    def _hear(self, event: Event) -> None:
        view, placer = self._decider.view, self._decider.placer
        match event:
            case Reported(state, now, is_streamed, stream):
                with suppress(RoostError):
                    view.apply(state, now, is_streamed=is_streamed, stream=stream)
            case StreamLost(node_id, epoch, now, stream):
                view.stream_lost(node_id, epoch, now, stream=stream)
            case Judged(node_id, liveness, now):
                view.judge(node_id, liveness, now)
            case Forgotten(node_id):
                view.forget(node_id)
            case LeftByItself(node_id, epoch, stream):
                view.leave(node_id, epoch, stream)
            case SilenceJudged(now, expected_interval_s):
                view.advance(now, expected_interval_s=expected_interval_s)
            case Settled(node_id, outcomes, now):
                placer.settle(node_id, outcomes, now)
            case Seen(node_id, made_before):
                placer.seen(node_id, made_before)
            case TimePassed(now):
                placer.advance(now)
            case _:
                pass

    def _place(self, request: PlacementRequest, now: float) -> Answer | None:
        try:
            return self._decider.waiting.place(request, now)
        except RoostError as error:
            return self._refused(request, error)

    def _wait(self, request: PlacementRequest, now: float, number: int) -> Refusal | None:
        try:
            self._numbers[self._decider.waiting.wait(request, now)] = number
        except RoostError as error:
            return self._refused(request, error)
        return None

    def _give_up(self, number: int) -> None:
        ticket = next((each for each, its in self._numbers.items() if its == number), None)
        if ticket is None:
            return
        del self._numbers[ticket]
        if self._decider.waiting.take_out(ticket):
            waited_s = self._now - ticket.since
            self._refused(ticket.request, NoWorkers(f"it gave up after about {waited_s:.1f} s of waiting for a worker"))

    def _bind(self, event: WasBound) -> list[Told]:
        bound = self._decider.waiting.bind(event.now, event.changed, has_opened=event.has_opened)
        again = [(ticket, self._refused(ticket.request, each) if isinstance(each, RoostError) else each) for ticket, each in bound]
        told: list[Told] = []
        for position in range(max(len(event.answers), len(again))):
            number, answer = event.answers[position] if position < len(event.answers) else (0, None)
            ticket, other = again[position] if position < len(again) else (None, None)
            its = 0 if ticket is None else self._numbers.pop(ticket)
            told.append(Told(_request_id(ticket, answer), answer, other if number in {0, its} else None))
        return told

    def _refused(self, request: PlacementRequest, error: RoostError) -> Refusal:
        if self._decider.records is not None:
            self._decider.records.refused(request, error, self._now)
        return Refusal.of(error)


def _request_id(ticket: Ticket | None, answer: Answer | None) -> str:
    if ticket is not None:
        return ticket.request.request_id
    return "" if answer is None or isinstance(answer, Refusal) else answer.request_id


def as_today(happened: Iterable[events.Beginning | events.Event | Event]) -> Iterator[events.Beginning | events.Event]:
    """What happened as it would be written today; what is written today already passes."""
    translation = _Translation()
    for each in happened:
        if isinstance(each, KINDS):
            yield from translation.of(each)
        else:
            yield each
    yield from translation.rest()


class _Translation:
    """State: the last report, if what follows it may be of it; the last request that was to wait; and the time."""

    def __init__(self) -> None:
        self._report: Reported | None = None
        self._unplaced: PlacementRequest | None = None
        self._now = 0.0

    def of(self, event: Event) -> Iterator[events.Event]:
        report, self._report = self._report, None
        if report is not None:
            is_told = isinstance(event, Seen) and event.node_id == report.state.node_id
            yield _told(report, event) if is_told and isinstance(event, Seen) else _reported(report)
        self._now = getattr(event, "now", self._now)
        if isinstance(event, Reported):
            self._report = event
            return
        today = self._of_asking(event)
        fact_of = _FACTS.get(type(event))
        if today is not None:
            yield today
        elif fact_of is not None:
            yield events.Heard(fact_of(event), self._now)

    def rest(self) -> Iterator[events.Event]:
        if self._report is not None:
            yield _reported(self._report)

    def _of_asking(self, event: Event) -> events.Event | None:
        match event:
            case Placed(request, now, answer):
                self._unplaced = request if answer is None else None
                return None if answer is None else events.Asked(request, now, answer)
            case BeganToWait(request, now, number, refusal):
                return events.Asked(request, now, number if refusal is None else refusal) if request == self._unplaced else None
            case GaveUp(number):
                return events.GaveUp(number, self._now)
            case WasBound(now, _, _, answers):
                return events.TimerRang(now, answers)
            case _:
                return None


_FACTS: Final[Mapping[type, Callable[..., facts.Fact]]] = MappingProxyType(
    {
        StreamLost: lambda it: facts.StreamLost(it.node_id, it.epoch, it.stream),
        LeftByItself: lambda it: facts.StreamEnded(it.node_id, it.epoch, it.stream),
        Judged: lambda it: facts.Judged(it.node_id, it.liveness),
        Forgotten: lambda it: facts.Forgotten(it.node_id),
        SilenceJudged: lambda it: facts.SilenceJudged(it.expected_interval_s),
        TimePassed: lambda _: facts.TimePassed(),
    }
)
"""Those that no other event tells, too: outcomes are in the report before them."""


def _reported(report: Reported) -> events.Heard:
    return events.Heard(facts.Reported(report.state, report.is_streamed, report.stream), report.now)


def _told(report: Reported, seen: Seen) -> events.Heard:
    return events.Heard(facts.Told(report.state, Liveness.LIVE, report.now, seen.made_before), report.now)
