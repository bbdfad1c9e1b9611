"""Serves a worker's one stream: reports and results come up, commands go down. Free of wire types and gRPC.

The order at the start matters: the view judges the first report (is this life of the worker the latest?) before the stream takes the
place of an older one; at the end the view hears of the loss, or of the worker's leaving, only from the stream that is still the worker's
current one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from roost.cluster.errors import InvalidField, WorkerSuperseded
from roost.cluster.worker_state import WorkerState
from roost.coordinator.commands import Command, CommandResult
from roost.coordinator.plane import CentralPlane
from roost.coordinator.worker_streams import WorkerStream, WorkerStreams
from roost.service.streams import StopSignal, Write, stream_tasks

FIRST_REPORT_S: Final = 10.0  # a worker sends it as it connects; a stream without one is not a worker's
BREAK_SHOWS_S: Final = 0.1  # a broken stream looks like one that was ended, until gRPC cancels its call a moment later

Upward = WorkerState | CommandResult


@dataclass(frozen=True, slots=True)
class Welcome:
    """The coordinator's terms, sent once after the first report."""

    coordinator_epoch: int
    dead_after_s: float


Downward = Welcome | Command


class Connections:
    """Serves any number of streams; each call of `serve` is one of them."""

    def __init__(self, plane: CentralPlane, streams: WorkerStreams, *, welcome: Welcome, stop: StopSignal) -> None:
        self._plane = plane
        self._streams = streams
        self._welcome = welcome
        self._stop = stop

    async def serve(self, messages: AsyncIterator[Upward], write: Write[Downward]) -> None:
        """Returns when the worker ends the stream.

        Raises, alone or in a group, InvalidField (a bad message), NoCapacity (the view is full), WorkerSuperseded (a newer stream exists),
        WorkerUnreachable (silent for too long), ServerStopping.
        """
        with self._plane.counting_superseded():
            first = await _first_report(messages)
            if first is not None:
                await self._serve(first, messages, write)

    async def _serve(self, first: WorkerState, messages: AsyncIterator[Upward], write: Write[Downward]) -> None:
        number = self._streams.next_number()
        self._report(first, number)
        stream = self._streams.open(first.node_id, first.epoch, number)
        has_said_goodbye = False
        try:
            async with stream_tasks() as tasks:
                companions = (self._send(stream, write), stream.refuse_when_ended(), self._stop.refuse_when_set())
                running = [tasks.create_task(companion) for companion in companions]
                async for message in messages:
                    self._take(stream, message)
                for task in running:
                    task.cancel()
                await asyncio.sleep(BREAK_SHOWS_S)
                has_said_goodbye = True
        finally:
            if self._streams.close(stream) and not self._stop.is_set:
                ended = self._plane.stream_ended if has_said_goodbye else self._plane.stream_lost
                ended(stream.worker_id, stream.epoch, stream.number)

    async def _send(self, stream: WorkerStream, write: Write[Downward]) -> None:
        await write(self._welcome)
        while True:
            await write(await stream.next_command())

    def _take(self, stream: WorkerStream, message: Upward) -> None:
        if isinstance(message, CommandResult):
            stream.resolve(message)
            return
        if message.node_id != stream.worker_id:
            raise InvalidField("node_id", f"may not change on a stream (was {stream.worker_id}, is {message.node_id})")
        if message.epoch != stream.epoch:
            raise InvalidField("epoch", f"may not change on a stream (was {stream.epoch}, is {message.epoch})")
        self._report(message, stream.number)

    def _report(self, state: WorkerState, number: int) -> None:
        reported = self._plane.report(state, is_streamed=True, stream=number)
        if reported.later_epoch:
            refusal = WorkerSuperseded(state.node_id, state.epoch, reported.later_epoch)
            self._plane.older_life(refusal)
            raise refusal


async def _first_report(messages: AsyncIterator[Upward]) -> WorkerState | None:
    """The first report, or None if the worker left without one. Raises InvalidField."""
    try:
        async with asyncio.timeout(FIRST_REPORT_S):
            first = await anext(messages, None)
    except TimeoutError:
        raise InvalidField("report", f"the first one did not come within {FIRST_REPORT_S:g} s") from None
    if isinstance(first, CommandResult):
        raise InvalidField("message", "the first message of a stream must be a report")
    return first
