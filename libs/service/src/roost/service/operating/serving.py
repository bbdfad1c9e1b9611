"""Serves one stream of a worker, whichever plane it reports to: reports and results come up, commands go down. No wire types, no gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from roost.cluster.errors import InvalidField
from roost.cluster.worker_state import WorkerState
from roost.service.operating.commands import Command, CommandResult
from roost.service.operating.streams import WorkerStream
from roost.service.streams import StopSignal, Write, stream_tasks

FIRST_REPORT_S: Final = 10.0  # a worker sends it as it connects; a stream without one is not a worker's

Upward = WorkerState | CommandResult
W = TypeVar("W")


async def first_report(messages: AsyncIterator[Upward]) -> WorkerState | None:
    """The first report, or None if the worker left without one. Raises InvalidField."""
    try:
        async with asyncio.timeout(FIRST_REPORT_S):
            first = await anext(messages, None)
    except TimeoutError:
        raise InvalidField("report", f"the first one did not come within {FIRST_REPORT_S:g} s") from None
    if isinstance(first, CommandResult):
        raise InvalidField("message", "the first message of a stream must be a report")
    return first


async def serve_stream(
    stream: WorkerStream,
    messages: AsyncIterator[Upward],
    write: Write[W | Command],
    *,
    welcome: W,
    report: Callable[[WorkerState], None],
    stop: StopSignal,
) -> None:
    """Says the welcome, then passes on what comes up and sends what is to go down, until the worker ends the stream.

    Raises, alone or in a group, InvalidField (a bad message, or a report of another life), what `report` raises, what the stream is ended
    with, and ServerStopping.
    """
    async with stream_tasks() as tasks:
        companions = (_send(stream, write, welcome), stream.refuse_when_ended(), stop.refuse_when_set())
        running = [tasks.create_task(companion) for companion in companions]
        async for message in messages:
            if isinstance(message, CommandResult):
                stream.resolve(message)
            else:
                stream.check(message)
                report(message)
        for task in running:
            task.cancel()


async def _send(stream: WorkerStream, write: Write[W | Command], welcome: W) -> None:
    await write(welcome)
    while True:
        await write(await stream.next_command())
