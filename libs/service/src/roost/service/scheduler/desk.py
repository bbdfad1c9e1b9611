"""What whoever asks a decider can ask, whatever door they come by: handlers translate, call this, and do nothing else. No wire types.

Most requests of a stream are decided as they are read and answered before the next one is read. Those that wait for a worker are in flight
beside it; when MAX_IN_FLIGHT are, nothing more is read, which the caller feels as flow control.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Final, NamedTuple

from roost.cluster.errors import InvalidField, RoostError, UnknownRequest
from roost.cluster.view import ClusterView
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.placer import Placer
from roost.placement.records import DecisionRecord
from roost.placement.request import PlacementRequest
from roost.service.scheduler.shell import DeciderShell
from roost.service.streams import StopSignal, Write, stream_tasks

MAX_IN_FLIGHT: Final = 1_000  # requests of one stream that wait for a worker; the waiting room of the process is as large


class Question(NamedTuple):
    """One request of a stream, or why it is none: a bad one is answered like any other and the stream lives.

    `is_dry_run`: it is asked for where the request would go, and nothing else.
    """

    request_id: str
    request: PlacementRequest | RoostError
    is_dry_run: bool = False


class Answer(NamedTuple):
    """The answer to the request of that id."""

    request_id: str
    result: Decision | RoostError


class Knowledge(NamedTuple):
    """What the decider knows, as of `now`, its own time."""

    view: ClusterView
    placer: Placer
    now: float


class Desk:
    """Serves any number of callers at once."""

    def __init__(self, shell: DeciderShell, *, stop: StopSignal) -> None:
        self._shell = shell
        self._stop = stop

    async def ask(self, request: PlacementRequest) -> Decision:
        """Where the request should run, at once or when there is room.

        Raises UnknownModel, ModelTooLarge, DeadlineImpossible, NoWorkers (none now, or none in time), NoCapacity, ServerStopping.
        """
        answer = self._shell.ask(request)
        return await self._shell.answer(answer) if isinstance(answer, Ticket) else answer

    def preview(self, request: PlacementRequest) -> Decision:
        """Where the request would run if it came now; nothing is reserved or counted. Raises as `ask`, and InvalidField if it may wait."""
        if request.may_queue:
            raise InvalidField("allow_queueing", "has no meaning with dry_run, which is answered at once; leave one of them out")
        return self._shell.preview(request)

    async def stream(self, questions: AsyncIterable[Question], write: Write[Answer]) -> None:
        """Returns when every question is answered and no more come. Raises ServerStopping."""
        flights = _Flights()
        async with stream_tasks() as tasks:
            watch = tasks.create_task(self._stop.refuse_when_set())
            async with asyncio.TaskGroup() as waiting:  # left when all that wait are answered
                async for question in questions:
                    result = self._answer_now(question, flights)
                    if isinstance(result, Ticket):
                        await flights.start(question.request_id)
                        waiting.create_task(self._answer_later(result, flights, write))
                    else:
                        await write(Answer(question.request_id, result))
            watch.cancel()

    def state(self) -> Knowledge:
        """All that is known."""
        shell = self._shell
        return Knowledge(shell.view, shell.placer, shell.now)

    async def watch(self, interval_s: float, write: Write[Knowledge]) -> None:
        """All that is known, now and after each change, but not more often than that. Raises NoCapacity, ServerStopping."""
        changes = self._shell.changes
        async with stream_tasks() as tasks:
            with changes.watching():
                tasks.create_task(self._stop.refuse_when_set())
                while True:
                    known = self.state()
                    mark = _mark_of(known)
                    await write(known)
                    await asyncio.sleep(interval_s)
                    await changes.until(lambda mark=mark: _mark_of(self.state()) != mark)  # type: ignore[misc]

    def explain(self, request_id: str) -> tuple[DecisionRecord, ...]:
        """Every decision on that request that is remembered, in order. Raises UnknownRequest."""
        records = self._shell.decider.records
        found = () if records is None else records.of(request_id)
        if not found:
            raise UnknownRequest(request_id, 0 if records is None else records.capacity)
        return found

    @property
    def now(self) -> float:
        """The decider's time."""
        return self._shell.now

    def _answer_now(self, question: Question, flights: _Flights) -> Decision | RoostError | Ticket:
        if isinstance(question.request, RoostError):
            return question.request
        if not question.request_id:
            return InvalidField("request_id", "is empty; on a stream each request needs one, to match its answer")
        if question.request_id in flights:
            return InvalidField("request_id", f"{question.request_id!r} is in flight on this stream; wait for its answer or use another")
        try:
            return self.preview(question.request) if question.is_dry_run else self._shell.ask(question.request)
        except RoostError as refusal:
            return refusal

    async def _answer_later(self, ticket: Ticket, flights: _Flights, write: Write[Answer]) -> None:
        request_id = ticket.request.request_id
        try:
            result: Decision | RoostError = await self._shell.answer(ticket)
        except RoostError as refusal:
            result = refusal
        await write(Answer(request_id, result))
        flights.land(request_id)


Mark = tuple[int, int, int, int, int, int]


def _mark_of(known: Knowledge) -> Mark:
    """Differs from an earlier one if and only if something that a watcher sees has changed."""
    view, placer, _ = known
    counts = placer.statistics
    return (view.version, placer.reservations, counts.total_requests, counts.hits, counts.cold_starts, counts.joins)


class _Flights:
    """The requests of one stream that wait for a worker, by id; at most MAX_IN_FLIGHT."""

    def __init__(self) -> None:
        self._request_ids: set[str] = set()
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def start(self, request_id: str) -> None:
        """Waits until there is room."""
        await self._room.acquire()
        self._request_ids.add(request_id)

    def land(self, request_id: str) -> None:
        self._request_ids.remove(request_id)
        self._room.release()

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._request_ids
