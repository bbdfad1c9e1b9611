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

from roost.cluster.worker_state import WorkerState
from roost.coordinator.plane import CentralPlane
from roost.coordinator.worker_streams import WorkerStreams
from roost.service.operating.commands import Command
from roost.service.operating.serving import Upward, first_report, serve_stream
from roost.service.streams import StopSignal, Write

BREAK_SHOWS_S: Final = 0.1  # a broken stream looks like one that was ended, until gRPC cancels its call a moment later


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
            first = await first_report(messages)
            if first is not None:
                await self._serve(first, messages, write)

    async def _serve(self, first: WorkerState, messages: AsyncIterator[Upward], write: Write[Downward]) -> None:
        number = self._streams.next_number()
        self._plane.report(first, is_streamed=True, stream=number)
        stream = self._streams.open(first.node_id, first.epoch, number)
        has_said_goodbye = False

        def report(state: WorkerState) -> None:
            self._plane.report(state, is_streamed=True, stream=number)

        try:
            await serve_stream(stream, messages, write, welcome=self._welcome, report=report, stop=self._stop)
            await asyncio.sleep(BREAK_SHOWS_S)
            has_said_goodbye = True
        finally:
            if self._streams.close(stream) and not self._stop.is_set:
                ended = self._plane.stream_ended if has_said_goodbye else self._plane.stream_lost
                ended(stream.worker_id, stream.epoch, stream.number)
