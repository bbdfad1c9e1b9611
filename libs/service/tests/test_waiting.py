"""The waiting room: every caller is answered once, and nobody is kept who has gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from roost.cluster.errors import DeadlineImpossible, NoCapacity, NoWorkers, ServerStopping
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CatalogueModel, ModelStatus, Phase, WorkerState
from roost.placement.decision import Decision
from roost.placement.dispatcher import Dispatcher
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest
from roost.service.scheduler.waiting import WaitingRoom

CATALOGUE = (CatalogueModel("sim-a", "simulated", 1), CatalogueModel("sim-b", "simulated", 1, load_time_s=4.0))


def request(request_id: str, model: str = "sim-a", *, priority: int = 0, deadline_s: float = 0.0) -> PlacementRequest:
    return PlacementRequest(request_id, model, priority=priority, deadline_s=deadline_s, may_queue=True)


class Desk:
    """A waiting room over a cluster of one worker, which drains until `open` is called. Time is told by the test."""

    def __init__(self, *, capacity: int = 10, policy: str = "weighted-score", on_timer: Callable[[], None] = lambda: None) -> None:
        self.view = ClusterView(catalogue=CATALOGUE)
        self.dispatcher = Dispatcher(Placer(self.view, policy, rng=random.Random(1), decider="d"), capacity=capacity)
        self.room = WaitingRoom(self.dispatcher, on_timer)
        self.report(is_draining=True)

    def report(self, *, is_draining: bool = False, can_load: tuple[str, ...] = ("sim-a", "sim-b")) -> None:
        self.view.apply(
            WorkerState(
                "worker-1",
                models={"sim-a": ModelStatus("sim-a", Phase.READY, 1)} if "sim-a" in can_load else {},
                is_draining=is_draining,
                catalogue=tuple(model for model in CATALOGUE if model.name in can_load),
            ),
            0.0,
            is_streamed=False,
        )

    def open(self, now: float, can_load: tuple[str, ...] = ("sim-a", "sim-b")) -> list[str]:
        self.report(can_load=can_load)
        bound = self.dispatcher.bind(now, "worker-1", has_opened=True)
        self.room.tell(bound)
        return [each.waiter.request.request_id for each in bound]

    async def waiting(self, *requests: PlacementRequest) -> list[asyncio.Task[Decision]]:
        tasks = [asyncio.create_task(self.room.answer(self.room.enter(one, 0.0))) for one in requests]
        await asyncio.sleep(0)  # each task runs up to its wait
        assert self.dispatcher.bind(0.0) == []
        assert len(self.room) == len(requests)
        return tasks


async def test_the_highest_priority_is_answered_first() -> None:
    desk = Desk()
    tasks = await desk.waiting(request("low"), request("high", priority=9), request("middle", priority=5))
    assert desk.open(1.0) == ["high", "middle", "low"]
    assert [(await task).request_id for task in tasks] == ["low", "high", "middle"]
    assert len(desk.room) == 0


async def test_those_that_the_worker_cannot_take_stay() -> None:
    desk = Desk()
    tasks = await desk.waiting(request("stays", "sim-b"), request("goes"))
    assert desk.open(1.0, can_load=("sim-a",)) == ["goes"]
    assert (await tasks[1]).request_id == "goes"
    assert len(desk.room) == 1
    tasks[0].cancel()


async def test_a_refusal_reaches_the_one_who_waits() -> None:
    desk = Desk()
    [task] = await desk.waiting(request("r", "sim-b", deadline_s=0.5))
    desk.open(0.1)
    with pytest.raises(DeadlineImpossible):
        await task


async def test_nobody_waits_longer_than_their_deadline_and_leaves_no_trace() -> None:
    desk = Desk()
    with pytest.raises(NoWorkers, match=r"within 0\.01 s"):
        await desk.room.answer(desk.room.enter(request("r", deadline_s=0.01), 0.0))
    assert len(desk.room) == 0


async def test_the_time_waited_counts_against_the_deadline_of_the_decision() -> None:
    desk = Desk()
    tasks = await desk.waiting(request("short", "sim-b", deadline_s=5.0), request("long", "sim-b", deadline_s=20.0), request("unbounded"))
    assert set(desk.open(2.0)) == {"short", "long", "unbounded"}
    with pytest.raises(DeadlineImpossible):
        await tasks[0]
    assert [(await task).request_id for task in tasks[1:]] == ["long", "unbounded"]


async def test_a_caller_that_leaves_gives_its_place_back() -> None:
    desk = Desk()
    [task] = await desk.waiting(request("r"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(desk.room) == 0


async def test_a_full_room_refuses() -> None:
    desk = Desk(capacity=1)
    [task] = await desk.waiting(request("first"))
    with pytest.raises(NoCapacity):
        desk.room.enter(request("second"), 0.0)
    desk.room.refuse_all(ServerStopping("the coordinator"))
    with pytest.raises(ServerStopping):
        await task


async def test_the_timer_rings_when_the_dispatcher_wants_to_be_asked() -> None:
    rung = asyncio.Event()
    desk = Desk(on_timer=rung.set)
    task = asyncio.create_task(desk.room.answer(desk.room.enter(request("r"), 0.0)))
    async with asyncio.timeout(5.0):
        await rung.wait()
    task.cancel()
