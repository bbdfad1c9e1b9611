"""Serves a scheduling stream: many requests on one call, each answered when it is decided. Free of wire types and gRPC.

Most requests are decided as they are read and answered before the next one is read. Those that wait for a worker are in flight beside
it; when MAX_IN_FLIGHT are, nothing more is read, which the caller feels as flow control.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Final, NamedTuple, TypeVar

from roost.cluster.errors import InvalidField, RoostError
from roost.placement.decision import Decision
from roost.placement.request import PlacementRequest
from roost.service.scheduler.plane import SchedulingPlane
from roost.service.streams import StopSignal, Write, refusing_garbage, stream_tasks

MAX_IN_FLIGHT: Final = 1_000  # requests of one stream that wait for a worker; the waiting room of the process is as large


Message = TypeVar("Message")


class Asked(NamedTuple):
    """One request of a stream, or why it is none: a bad one is answered like any other and the stream lives."""

    request_id: str
    request: PlacementRequest | RoostError


class Answered(NamedTuple):
    """The answer to the request of that id."""

    request_id: str
    result: Decision | RoostError


class Scheduling:
    """Serves any number of streams; each call of `serve` is one of them."""

    def __init__(self, plane: SchedulingPlane, *, stop: StopSignal) -> None:
        self._plane = plane
        self._stop = stop

    async def serve(self, messages: AsyncIterable[Message], read: Callable[[Message], Asked], write: Write[Answered]) -> None:
        """Returns when every request is answered and no more come. Raises ServerStopping."""
        flights = _Flights()
        async with stream_tasks() as tasks:
            watch = tasks.create_task(self._stop.refuse_when_set())
            async with asyncio.TaskGroup() as waiting:  # left when all that wait are answered
                with refusing_garbage():
                    async for message in messages:
                        question = read(message)
                        result = self._answer_now(question, flights)
                        if result is not None:
                            await write(Answered(question.request_id, result))
                            continue
                        await flights.start(question.request_id)
                        waiting.create_task(self._answer_later(question, flights, write))
            watch.cancel()

    def _answer_now(self, question: Asked, flights: _Flights) -> Decision | RoostError | None:
        """The answer, or None if the request has to wait."""
        if isinstance(question.request, RoostError):
            return question.request
        if not question.request_id:
            return InvalidField("request_id", "is empty; on a stream each request needs one, to match its answer")
        if question.request_id in flights:
            return InvalidField("request_id", f"{question.request_id!r} is in flight on this stream; wait for its answer or use another")
        try:
            return self._plane.place_now(question.request)
        except RoostError as refusal:
            return refusal

    async def _answer_later(self, question: Asked, flights: _Flights, write: Write[Answered]) -> None:
        assert isinstance(question.request, PlacementRequest)  # noqa: S101  # others are answered at once
        try:
            result: Decision | RoostError = await self._plane.place_later(question.request)
        except RoostError as refusal:
            result = refusal
        await write(Answered(question.request_id, result))
        flights.land(question.request_id)


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
