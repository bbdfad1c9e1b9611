"""The waiting room: bounded, best first, answered at most once."""

from __future__ import annotations

import asyncio

import pytest

from roost.cluster.errors import NoCapacity, NoWorkers, ServerStopping, UnknownModel
from roost.placement.decision import Action, Decision
from roost.placement.request import PlacementRequest
from roost.service.scheduler.waiting import WaitingRoom


def request(request_id: str, *, priority: int = 0, deadline_s: float = 0.0) -> PlacementRequest:
    return PlacementRequest(request_id, "sim-a", priority=priority, deadline_s=deadline_s, may_queue=True)


def decide(request: PlacementRequest) -> Decision:
    return Decision(f"d-{request.request_id}", request.request_id, "worker-1", "", Action.SERVE, 0.0, "", 0.0, "test")


async def waiting(room: WaitingRoom, *requests: PlacementRequest) -> list[asyncio.Task[Decision]]:
    tasks = [asyncio.create_task(room.wait(one, 0.0)) for one in requests]
    await asyncio.sleep(0)  # each task runs up to its wait
    assert len(room) == len(requests)
    return tasks


async def test_the_highest_priority_is_answered_first() -> None:
    room, order = WaitingRoom(), list[str]()
    tasks = await waiting(room, request("low"), request("high", priority=9), request("middle", priority=5))

    def note(request: PlacementRequest) -> Decision:
        order.append(request.request_id)
        return decide(request)

    room.admit(lambda request: True, note, 1.0)
    assert order == ["high", "middle", "low"]
    assert [(await task).request_id for task in tasks] == ["low", "high", "middle"]
    assert len(room) == 0


async def test_those_that_the_worker_cannot_take_stay() -> None:
    room = WaitingRoom()
    tasks = await waiting(room, request("stays"), request("goes"))
    room.admit(lambda request: request.request_id == "goes", decide, 1.0)
    assert (await tasks[1]).request_id == "goes"
    assert len(room) == 1
    tasks[0].cancel()


async def test_a_refusal_reaches_the_one_who_waits() -> None:
    room = WaitingRoom()
    [task] = await waiting(room, request("r"))

    def refuse(request: PlacementRequest) -> Decision:
        raise UnknownModel(request.model)

    room.admit(lambda request: True, refuse, 1.0)
    with pytest.raises(UnknownModel):
        await task


async def test_nobody_waits_longer_than_their_deadline_and_leaves_no_trace() -> None:
    room = WaitingRoom()
    with pytest.raises(NoWorkers, match=r"within 0\.01 s"):
        await room.wait(request("r", deadline_s=0.01), 0.0)
    assert len(room) == 0


async def test_the_time_waited_counts_against_the_deadline_of_the_decision() -> None:
    room, left = WaitingRoom(), dict[str, float]()
    tasks = await waiting(room, request("short", deadline_s=5.0), request("long", deadline_s=20.0), request("unbounded"))

    def note(request: PlacementRequest) -> Decision:
        left[request.request_id] = request.deadline_s
        return decide(request)

    room.admit(lambda request: True, note, 8.0)
    assert left == {"long": 12.0, "unbounded": 0.0}
    with pytest.raises(NoWorkers, match=r"within 5 s of waiting"):
        await tasks[0]
    assert [(await task).request_id for task in tasks[1:]] == ["long", "unbounded"]


async def test_a_caller_that_leaves_gives_its_place_back() -> None:
    room = WaitingRoom()
    [task] = await waiting(room, request("r"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(room) == 0


async def test_a_full_room_refuses() -> None:
    room = WaitingRoom(capacity=1)
    [task] = await waiting(room, request("first"))
    with pytest.raises(NoCapacity):
        await room.wait(request("second"), 0.0)
    room.refuse_all(ServerStopping("the coordinator"), 1.0)
    with pytest.raises(ServerStopping):
        await task
