"""How many large requests are received at once."""

from __future__ import annotations

import asyncio

import pytest

from roost.service.reception import ReceptionGate


async def entered(*waits: asyncio.Task[None]) -> list[bool]:
    for _ in range(3):
        await asyncio.sleep(0)
    return [wait.done() for wait in waits]


async def test_no_more_than_so_many_are_received_at_once_and_the_first_to_wait_is_the_next() -> None:
    gate = ReceptionGate(at_once=2, longest_s=60)
    waits = [asyncio.create_task(gate.enter()) for _ in range(4)]
    assert await entered(*waits) == [True, True, False, False]
    gate.leave()
    assert await entered(*waits) == [True, True, True, False]
    gate.leave()
    gate.leave()
    assert await entered(*waits) == [True] * 4
    assert repr(gate) == "<ReceptionGate 1/2 being received, 0 waiting>"


async def test_a_request_that_does_not_come_holds_its_place_only_for_a_time() -> None:
    gate = ReceptionGate(at_once=1, longest_s=0.05)
    await gate.enter()
    async with asyncio.timeout(5):
        await gate.enter()


async def test_who_gives_up_waiting_takes_no_place() -> None:
    gate = ReceptionGate(at_once=1, longest_s=60)
    await gate.enter()
    first, second = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
    await entered(first, second)
    first.cancel()
    gate.leave()
    assert await entered(first, second) == [True, True]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_who_gives_up_as_its_turn_comes_hands_it_on() -> None:
    gate = ReceptionGate(at_once=1, longest_s=60)
    await gate.enter()
    first, second = asyncio.create_task(gate.enter()), asyncio.create_task(gate.enter())
    await entered(first, second)
    gate.leave()
    first.cancel()
    assert await entered(second) == [True]


async def test_leaving_without_having_entered_changes_nothing() -> None:
    gate = ReceptionGate(at_once=1, longest_s=60)
    gate.leave()
    await gate.enter()
    assert repr(gate) == "<ReceptionGate 1/1 being received, 0 waiting>"
