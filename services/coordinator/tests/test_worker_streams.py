"""Command lines: every command is answered exactly once."""

from __future__ import annotations

import asyncio

import pytest

from roost.cluster.errors import NoCapacity, ServerStopping, WorkerSuperseded, WorkerUnreachable
from roost.coordinator.worker_streams import WorkerStreams
from roost.service.operating.commands import CommandResult, Drain, LoadModel
from roost.service.operating.streams import MAX_COMMANDS, WorkerStream

LONG_S = 5.0


def opened(streams: WorkerStreams, worker_id: str = "worker-1", epoch: int = 1) -> WorkerStream:
    return streams.open(worker_id, epoch, streams.next_number())


async def test_a_command_is_answered_by_its_result() -> None:
    stream = opened(WorkerStreams("c"))
    asked = asyncio.create_task(stream.command(LoadModel("m"), LONG_S))
    command = await stream.next_command()
    assert command.action == LoadModel("m")
    assert stream.resolve(CommandResult(command.command_id, elapsed_s=2.0))
    assert (await asked).elapsed_s == 2.0
    assert not stream.resolve(CommandResult(command.command_id))


async def test_command_ids_are_unique_over_all_workers() -> None:
    streams = WorkerStreams("c")
    one, other = opened(streams, "worker-1"), opened(streams, "worker-2")
    asked = [asyncio.create_task(stream.command(Drain(), LONG_S)) for stream in (one, other, one)]
    commands = [await one.next_command(), await other.next_command(), await one.next_command()]
    assert len({command.command_id for command in commands}) == 3
    for task in asked:
        task.cancel()


async def test_a_worker_that_does_not_answer_in_time_is_unreachable() -> None:
    stream = opened(WorkerStreams("c"))
    with pytest.raises(WorkerUnreachable, match=r"did not answer load_model within 0\.01 s"):
        await stream.command(LoadModel("m"), 0.01)


async def test_a_command_whose_caller_left_is_not_sent() -> None:
    stream = opened(WorkerStreams("c"))
    with pytest.raises(WorkerUnreachable):
        await stream.command(LoadModel("given-up"), 0.0)
    asked = asyncio.create_task(stream.command(LoadModel("wanted"), LONG_S))
    assert (await stream.next_command()).action == LoadModel("wanted")
    asked.cancel()


async def test_the_end_of_a_stream_fails_what_is_under_way_and_what_comes_after() -> None:
    stream = opened(WorkerStreams("c"))
    asked = asyncio.create_task(stream.command(LoadModel("m"), LONG_S))
    await stream.next_command()
    stream.end(ServerStopping("the coordinator"))
    with pytest.raises(WorkerUnreachable, match="ended before it answered"):
        await asked
    with pytest.raises(WorkerUnreachable, match="has ended"):
        await stream.command(LoadModel("m"), LONG_S)
    with pytest.raises(ServerStopping):
        await stream.refuse_when_ended()


async def test_commands_under_way_are_bounded() -> None:
    stream = opened(WorkerStreams("c"))
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(stream.command(LoadModel("m"), LONG_S)) for _ in range(MAX_COMMANDS)]
        commands = [await stream.next_command() for _ in asked]
        with pytest.raises(NoCapacity):
            await stream.command(LoadModel("m"), LONG_S)
        for command in commands:
            stream.resolve(CommandResult(command.command_id))
    assert all(task.result().code == 0 for task in asked)


async def test_a_newer_stream_takes_the_place_of_the_older_one() -> None:
    streams = WorkerStreams("c")
    old, new = opened(streams), opened(streams, epoch=2)
    with pytest.raises(WorkerSuperseded, match="epoch 2"):
        await old.refuse_when_ended()
    assert streams.get("worker-1") is new
    assert not streams.close(old)
    assert streams.get("worker-1") is new
    assert streams.close(new)
    with pytest.raises(WorkerUnreachable, match="holds no stream"):
        streams.get("worker-1")
