"""Commands that are called off, as a worker carries them out."""

from __future__ import annotations

import asyncio
import time

from google.rpc import code_pb2
from worker_world import generate, world

from roost.cluster.worker_state import CacheResult
from roost.service.operating.codec import command_to_wire
from roost.service.operating.commands import Action, Cancel, Command, LoadModel, UnloadModel, UnpinModel
from roost.service.operating.streams import MAX_COMMANDS
from roost.v1 import coordinator_pb2
from roost.worker.obedience import Obedience


def command(number: int, action: Action) -> coordinator_pb2.Command:
    return command_to_wire(Command(f"c-{number}", action))


async def test_a_load_that_is_called_off_stops_and_both_commands_are_answered() -> None:
    async with world() as here:
        obedience = Obedience(here.runtime, clock=time.monotonic)
        here.engine.hold_loads()
        loading = asyncio.create_task(obedience.carry_out(command(1, LoadModel("a"))))
        await here.engine.until_loading("a")
        cancelled = await obedience.carry_out(command(2, Cancel("c-1")))
        assert (cancelled.command_id, cancelled.code) == ("c-2", code_pb2.OK)
        assert (await loading).code == code_pb2.CANCELLED
        await here.until(lambda: here.runtime.core.cache.used_bytes == 0)
        assert here.engine.cancelled_loads == ["a"]


async def test_a_load_that_a_request_waits_for_goes_on() -> None:
    async with world() as here:
        obedience = Obedience(here.runtime, clock=time.monotonic)
        here.engine.hold_loads()
        loading = asyncio.create_task(obedience.carry_out(command(1, LoadModel("a"))))
        await here.engine.until_loading("a")
        generation = generate(here.runtime)
        await generation.until_accepted()
        await obedience.carry_out(command(2, Cancel("c-1")))
        assert (await loading).code == code_pb2.CANCELLED
        here.engine.let_loads()
        await generation.completed()
        assert here.engine.loads == {"a": 1}


async def test_an_unload_that_waits_is_called_off() -> None:
    async with world() as here:
        obedience = Obedience(here.runtime, clock=time.monotonic)
        here.engine.hold_tokens()
        generation = generate(here.runtime)
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        unloading = asyncio.create_task(obedience.carry_out(command(1, UnloadModel("a", when_free=True))))
        await asyncio.wait({unloading}, timeout=0.01)
        await obedience.carry_out(command(2, Cancel("c-1")))
        assert (await unloading).code == code_pb2.CANCELLED
        here.engine.let_tokens()
        await generation.completed()
        assert here.runtime.core.cache.find("a") is CacheResult.HIT


async def test_calling_off_what_is_over_or_was_never_there_changes_nothing() -> None:
    async with world() as here:
        obedience = Obedience(here.runtime, clock=time.monotonic)
        assert (await obedience.carry_out(command(1, LoadModel("a", is_pinned=True)))).code == code_pb2.OK
        for command_id in ("c-1", "c-99"):
            assert (await obedience.carry_out(command(2, Cancel(command_id)))).code == code_pb2.OK
        assert here.runtime.core.cache.find("a") is CacheResult.HIT
        assert (await obedience.carry_out(command(3, UnpinModel("a")))).code == code_pb2.OK
        assert here.runtime.core.cache.pinned_bytes == 0


async def test_what_calls_off_is_taken_though_there_is_room_for_no_more_commands() -> None:
    async with world() as here:
        obedience = Obedience(here.runtime, clock=time.monotonic)
        here.engine.hold_loads()
        loads = [asyncio.create_task(obedience.carry_out(command(number, LoadModel("a")))) for number in range(MAX_COMMANDS)]
        await here.engine.until_loading("a")
        assert (await obedience.carry_out(command(98, LoadModel("a")))).reason == "NO_CAPACITY"
        for number in range(MAX_COMMANDS):
            assert (await obedience.carry_out(command(100 + number, Cancel(f"c-{number}")))).code == code_pb2.OK
        assert {(await load).code for load in loads} == {code_pb2.CANCELLED}
        await here.until(lambda: here.runtime.core.cache.used_bytes == 0)
