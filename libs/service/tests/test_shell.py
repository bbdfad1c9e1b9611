"""The shell: every caller is answered once, nobody is kept who has gone, and what happens passes the taps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from roost.cluster.errors import DeadlineImpossible, NoCapacity, NoWorkers, RoostError, ServerStopping
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CatalogueModel, ModelStatus, ModelTiming, Phase, WorkerState
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered, Effect, Load
from roost.placement.facts import Fact, Reported, Stopping
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms
from roost.service.scheduler.shell import DeciderShell
from roost.service.scheduler.taps import Tap

CATALOGUE = (CatalogueModel("sim-a", "simulated", 1), CatalogueModel("sim-b", "simulated", 1, load_time_s=4.0))


def request(request_id: str, model: str = "sim-a", *, priority: int = 0, deadline_s: float = 0.0) -> PlacementRequest:
    return PlacementRequest(request_id, model, priority=priority, deadline_s=deadline_s, may_queue=True)


class Told(Tap):
    """What passed, in order."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.rang_times = 0

    def heard(self, fact: Fact, now: float, effects: Sequence[Effect]) -> None:
        self.all += [type(fact).__name__, *(each.ticket.request.request_id for each in effects if isinstance(each, Answered))]

    def asked(self, request: PlacementRequest, now: float, answer: Decision | Ticket | RoostError, elapsed_s: float) -> None:
        self.all.append(f"{request.request_id}: {type(answer).__name__}")

    def rang(self, now: float, effects: Sequence[Effect]) -> None:
        self.rang_times += 1

    def gave_up(self, ticket: Ticket, now: float) -> None:
        self.all.append(f"{ticket.request.request_id} gave up")


class World:
    """A shell over a cluster of one worker, which drains until `open` is called."""

    def __init__(self, *, capacity: int = 10, policy: str = "weighted-score", longest_wait_s: float = 30.0) -> None:
        terms = Terms("d", policy, can_tell=True, capacity=capacity, longest_wait_s=longest_wait_s)
        self.told = Told()
        self.loads: list[Load] = []
        self.now = 100.0
        decider = Decider(ClusterView(catalogue=CATALOGUE), terms, rng=random.Random(1))
        self.shell = DeciderShell(decider, clock=lambda: self.now, taps=[self.told], load=self.loads.append)
        self.report(is_draining=True)

    def report(self, node_id: str = "worker-1", *, can_load: tuple[str, ...] = ("sim-a", "sim-b"), **fields: object) -> None:
        ready = {"sim-a": ModelStatus("sim-a", Phase.READY, 1)} if "sim-a" in can_load else {}
        state = WorkerState(
            node_id,
            **{"models": ready, "catalogue": tuple(model for model in CATALOGUE if model.name in can_load)} | fields,  # type: ignore[arg-type]
        )
        self.shell.hear(Reported(state, is_streamed=False))

    async def ask(self, *requests: PlacementRequest) -> list[asyncio.Task[Decision]]:
        """All of them wait."""
        tickets = [self.shell.ask(one) for one in requests]
        assert all(isinstance(ticket, Ticket) for ticket in tickets)
        tasks = [asyncio.create_task(self.shell.answer(ticket)) for ticket in tickets if isinstance(ticket, Ticket)]
        await asyncio.sleep(0)  # each task runs up to its wait
        return tasks

    @property
    def waiting(self) -> int:
        return len(self.shell.decider.waiting)


async def test_the_highest_priority_is_answered_first() -> None:
    world = World()
    tasks = await world.ask(request("low"), request("high", priority=9), request("middle", priority=5))
    world.report()
    assert [(await task).request_id for task in tasks] == ["low", "high", "middle"]
    assert world.told.all[-4:] == ["Reported", "high", "middle", "low"]
    assert world.waiting == 0


async def test_those_that_the_worker_cannot_take_stay() -> None:
    world = World()
    tasks = await world.ask(request("stays", "sim-b"), request("goes"))
    world.report(can_load=("sim-a",))
    assert (await tasks[1]).request_id == "goes"
    assert world.waiting == 1
    tasks[0].cancel()


async def test_a_refusal_reaches_the_one_who_waits() -> None:
    world = World()
    [task] = await world.ask(request("r", "sim-b", deadline_s=0.5))
    world.now += 0.1
    world.report()
    with pytest.raises(DeadlineImpossible):
        await task


async def test_nobody_waits_longer_than_their_deadline_and_leaves_no_trace() -> None:
    world = World()
    [task] = await world.ask(request("r", deadline_s=0.01))
    world.now += 0.011
    with pytest.raises(NoWorkers, match=r"within 0\.01 s"):
        await task
    assert world.waiting == 0


async def test_nobody_waits_longer_than_the_terms_allow() -> None:
    world = World(longest_wait_s=0.02)
    [task] = await world.ask(request("r", deadline_s=9.0))
    world.now += 0.021
    with pytest.raises(NoWorkers, match=r"within 0\.02 s"):
        await task


async def test_the_time_waited_counts_against_the_deadline_of_the_decision() -> None:
    world = World()
    tasks = await world.ask(request("short", "sim-b", deadline_s=5.0), request("long", "sim-b", deadline_s=20.0), request("unbounded"))
    world.now += 2.0
    world.report()
    with pytest.raises(DeadlineImpossible):
        await tasks[0]
    assert [(await task).request_id for task in tasks[1:]] == ["long", "unbounded"]


async def test_a_caller_that_leaves_gives_its_place_back() -> None:
    world = World()
    [task] = await world.ask(request("r"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.waiting == 0
    assert world.told.all[-1] == "r gave up"


async def test_a_caller_that_was_answered_gives_nothing_up() -> None:
    world = World()
    [task] = await world.ask(request("r"))
    world.report()
    await task
    assert world.told.all[1:] == ["r: Ticket", "Reported", "r"]


async def test_a_full_room_refuses() -> None:
    world = World(capacity=1)
    [task] = await world.ask(request("first"))
    with pytest.raises(NoCapacity):
        world.shell.ask(request("second"))
    assert world.told.all[-1] == "second: NoCapacity"
    task.cancel()


async def test_who_waits_when_the_process_stops_is_refused_and_so_is_who_would_have_to() -> None:
    world = World()
    [task] = await world.ask(request("r"))
    world.shell.hear(Stopping("the coordinator"))
    with pytest.raises(ServerStopping, match="the coordinator is stopping"):
        await task
    with pytest.raises(ServerStopping):
        world.shell.ask(request("late"))


async def test_the_decider_is_woken_when_it_wants_to_be_though_nothing_is_heard() -> None:
    world = World(policy="expected-wait")
    busy = {"sim-a": ModelStatus("sim-a", Phase.READY, 1, in_flight=1)}
    world.report(models=busy, busy_slots=1, queue_depth=1, timings={"sim-a": ModelTiming(0.3, 1.0)}, epoch=1, sequence=1)
    [task] = await world.ask(request("r"))
    async with asyncio.timeout(5.0):
        while world.told.rang_times < 2:
            world.now += 0.1
            await asyncio.sleep(0.001)
    task.cancel()


async def test_a_load_that_is_wanted_is_begun() -> None:
    world = World(policy="expected-wait")
    timings = {"sim-a": ModelTiming(1.0, 2.0)}
    busy = {"sim-a": ModelStatus("sim-a", Phase.READY, 1, in_flight=1, queued=20)}
    world.report(models=busy, busy_slots=1, queue_depth=20, timings=timings, epoch=1, sequence=1, memory_capacity_bytes=9)
    world.report("worker-2", models={}, timings=timings, epoch=1, sequence=1, memory_capacity_bytes=9)
    [task] = await world.ask(request("r"))
    assert [load[:2] for load in world.loads] == [("worker-2", "sim-a")]
    task.cancel()


async def test_watchers_hear_of_decisions_and_of_changes() -> None:
    world = World()
    version = world.shell.view.version
    watching = asyncio.create_task(world.shell.changes.until(lambda: world.shell.view.version != version))
    await asyncio.sleep(0)
    world.report()
    async with asyncio.timeout(5.0):
        await watching
