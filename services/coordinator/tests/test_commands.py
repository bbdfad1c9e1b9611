"""What operators ask of workers, on a real server with workers that really answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine

import grpc
import pytest
from coordinator_peers import DEADLINE_S, Cluster, Refused, catalogue, refusal, report, running_cluster

from roost.v1 import coordinator_pb2

Code = grpc.StatusCode


async def load(cluster: Cluster, model: str = "sim-a", timeout: float = DEADLINE_S, **fields: object) -> coordinator_pb2.LoadModelResponse:
    request = coordinator_pb2.LoadModelRequest(model=model, **fields)  # type: ignore[arg-type]
    return await cluster.coordinator.LoadModel(request, timeout=timeout)


async def refused(call: Coroutine[None, None, object]) -> Refused:
    async with refusal() as caught:
        await call
    return caught[0]


def told(
    response: coordinator_pb2.LoadModelResponse | coordinator_pb2.UnloadModelResponse | coordinator_pb2.UnpinModelResponse,
) -> list[tuple[str, bool]]:
    return [(outcome.worker_id, outcome.unchanged) for outcome in response.outcomes]


async def test_a_load_answers_when_the_model_is_ready() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker, asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(load(cluster, pin=True))
        command = await worker.obey()
        assert (command.load_model.model, command.load_model.pin) == ("sim-a", True)
        [outcome] = (await loading).outcomes
        assert (outcome.worker_id, outcome.unchanged, outcome.elapsed_s) == ("worker-1", False, 0.25)
        assert (await cluster.schedule()).reason


async def test_those_that_have_it_count_and_the_least_loaded_of_the_others_load_it() -> None:
    async with (
        running_cluster() as cluster,
        cluster.worker("has-it", ready=["sim-a"], queue_depth=9),
        cluster.worker("busy", queue_depth=5),
        cluster.worker("idle") as idle,
        asyncio.TaskGroup() as tasks,
    ):
        loading = tasks.create_task(load(cluster, replicas=2))
        await idle.obey()
        assert told(await loading) == [("has-it", True), ("idle", False)]


async def test_loads_run_at_the_same_time() -> None:
    async with running_cluster() as cluster, cluster.worker("one") as one, cluster.worker("two") as two, asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(load(cluster, replicas=2))
        commands = [await one.command(), await two.command()]  # both have theirs before either has answered
        for worker, command in zip((one, two), commands, strict=True):
            await worker.answer(command)
        assert told(await loading) == [("one", False), ("two", False)]


async def test_a_failure_names_the_worker_and_passes_on_its_reason() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker, asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(refused(load(cluster, worker_id="worker-1")))
        await worker.answer(await worker.command(), code=9, message="sim-a could not be loaded: bad magic", reason="MODEL_LOAD_FAILED")
        answer = await loading
        assert (answer.code, answer.reason) == (Code.FAILED_PRECONDITION, "COMMAND_FAILED")
        assert answer.message == "worker-1: sim-a could not be loaded: bad magic"


async def test_a_partial_failure_says_who_failed_why_and_who_is_done() -> None:
    async with running_cluster() as cluster, cluster.worker("one") as one, cluster.worker("two") as two, asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(refused(load(cluster, replicas=2)))
        await one.answer(await one.command())
        await two.answer(await two.command(), code=8, message="no room: everything is pinned", reason="NO_CAPACITY")
        answer = await loading
        assert answer.code is Code.RESOURCE_EXHAUSTED
        assert answer.message == "two: no room: everything is pinned (done on one)"


async def test_several_failures_name_each_worker_once_and_in_order() -> None:
    async with (
        running_cluster() as cluster,
        cluster.worker("worker-3", ready=["sim-a"]) as three,
        cluster.worker("worker-1", ready=["sim-a"]) as one,
        cluster.worker("worker-4", ready=["sim-a"]) as four,
        cluster.worker("worker-2", ready=["sim-a"]) as two,
        asyncio.TaskGroup() as tasks,
    ):
        request = coordinator_pb2.UnloadModelRequest(model="sim-a")
        unloading = tasks.create_task(refused(asyncio.wait_for(cluster.coordinator.UnloadModel(request, timeout=DEADLINE_S), DEADLINE_S)))
        for worker in (three, one):
            await worker.answer(await worker.command(), code=9, message="sim-a is in use by 1 request(s)", reason="MODEL_IN_USE")
        await two.answer(await two.command(), code=9, message="sim-a is in use by 7 request(s)", reason="MODEL_IN_USE")
        await four.obey()
        answer = await unloading
        assert answer.code is Code.FAILED_PRECONDITION
        assert answer.message == (
            "worker-1, worker-3: sim-a is in use by 1 request(s); worker-2: sim-a is in use by 7 request(s) (done on worker-4)"
        )


async def test_a_caller_that_goes_away_calls_its_load_off() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker:
        call = cluster.coordinator.LoadModel(coordinator_pb2.LoadModelRequest(model="sim-a", worker_id="worker-1"), timeout=DEADLINE_S)
        loading = asyncio.ensure_future(call)
        command = await worker.command()
        call.cancel()
        assert (await worker.command()).cancel.command_id == command.command_id
        await asyncio.wait({loading})


async def test_an_unload_that_is_not_done_in_time_is_called_off() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]) as worker, asyncio.TaskGroup() as tasks:
        request = coordinator_pb2.UnloadModelRequest(model="sim-a", when_free=True)
        unloading = tasks.create_task(refused(asyncio.wait_for(cluster.coordinator.UnloadModel(request, timeout=0.3), DEADLINE_S)))
        command = await worker.command()
        assert command.unload_model.when_free
        assert (await worker.command()).cancel.command_id == command.command_id
        assert (await unloading).code is Code.DEADLINE_EXCEEDED


async def test_an_unpin_reaches_those_that_have_it_pinned() -> None:
    async with (
        running_cluster() as cluster,
        cluster.worker("one", pinned=["sim-a"]) as one,
        cluster.worker("two", ready=["sim-a"]),
        asyncio.TaskGroup() as tasks,
    ):
        unpinning = tasks.create_task(_unpin(cluster))
        assert (await one.obey()).unpin_model.model == "sim-a"
        assert told(await unpinning) == [("one", False), ("two", True)]


async def _unpin(cluster: Cluster) -> coordinator_pb2.UnpinModelResponse:
    return await cluster.coordinator.UnpinModel(coordinator_pb2.UnpinModelRequest(model="sim-a"), timeout=DEADLINE_S)


async def test_a_worker_that_is_lost_while_it_loads_is_unreachable() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker, asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(refused(load(cluster, worker_id="worker-1")))
        await worker.command()
        worker.break_off()
        answer = await loading
        assert (answer.code, answer.reason) == (Code.UNAVAILABLE, "WORKER_UNREACHABLE")


async def test_a_worker_that_does_not_answer_is_unreachable_after_the_setting() -> None:
    async with running_cluster(command_timeout_s=0.1) as cluster, cluster.worker("worker-1"):
        async with refusal() as caught:
            await cluster.coordinator.LoadModel(coordinator_pb2.LoadModelRequest(model="sim-a", worker_id="worker-1"))
        assert caught[0].reason == "WORKER_UNREACHABLE"
        assert "within 0.1 s" in caught[0].message


async def test_the_callers_deadline_holds_before_the_setting() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1"):
        answer = await refused(load(cluster, timeout=0.1, worker_id="worker-1"))
        assert answer.code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    ("fields", "code", "reason", "said"),
    [
        ({"replicas": 2, "worker_id": "worker-1"}, Code.INVALID_ARGUMENT, "INVALID_FIELD", "together with worker_id"),
        ({"replicas": -1}, Code.INVALID_ARGUMENT, "INVALID_FIELD", "replicas"),
        ({"model": ""}, Code.INVALID_ARGUMENT, "INVALID_FIELD", "model"),
        ({"model": "sim-aa"}, Code.NOT_FOUND, "UNKNOWN_MODEL", "sim-a"),
        ({"worker_id": "worker-2"}, Code.NOT_FOUND, "UNKNOWN_WORKER", "worker-1"),
        ({"worker_id": "simple"}, Code.UNAVAILABLE, "WORKER_UNREACHABLE", "holds no stream"),
        ({"replicas": 3}, Code.UNAVAILABLE, "NO_WORKERS", "1 more can load it"),
        ({"model": "huge"}, Code.FAILED_PRECONDITION, "MODEL_TOO_LARGE", "1000 bytes"),
    ],
)
async def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_sent(
    fields: dict[str, object], code: Code, reason: str, said: str
) -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker:
        await worker.report(catalogue=catalogue("sim-a", huge=5000))
        await cluster.coordinator.ReportLoad(coordinator_pb2.ReportLoadRequest(report=report("simple")), timeout=DEADLINE_S)
        await cluster.await_state(lambda state: any(model.model.size_bytes == 5000 for model in state.models))
        answer = await refused(load(cluster, **{"model": "sim-a", **fields}))  # type: ignore[arg-type]
        assert (answer.code, answer.reason) == (code, reason)
        assert said in answer.message


async def test_an_unload_reaches_every_worker_that_has_the_model() -> None:
    async with (
        running_cluster() as cluster,
        cluster.worker("one", ready=["sim-a"]) as one,
        cluster.worker("two", loading=["sim-a"]) as two,
        cluster.worker("three", ready=["sim-b"]),
        asyncio.TaskGroup() as tasks,
    ):
        request = coordinator_pb2.UnloadModelRequest(model="sim-a")
        unloading = tasks.create_task(asyncio.wait_for(cluster.coordinator.UnloadModel(request, timeout=DEADLINE_S), DEADLINE_S))
        assert [(await worker.obey()).unload_model.model for worker in (one, two)] == ["sim-a", "sim-a"]
        assert told(await unloading) == [("one", False), ("two", False)]


async def test_an_unload_of_what_is_not_there_changes_nothing() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1"):
        request = coordinator_pb2.UnloadModelRequest(model="sim-a", worker_id="worker-1")
        assert told(await cluster.coordinator.UnloadModel(request, timeout=DEADLINE_S)) == [("worker-1", True)]


@pytest.mark.parametrize("has_others", [True, False])
async def test_a_grace_is_passed_on_unless_nobody_else_takes_requests(has_others: bool) -> None:  # noqa: FBT001  # a parameter
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker, contextlib.AsyncExitStack() as others:
        if has_others:
            await others.enter_async_context(cluster.worker("worker-2"))
        async with asyncio.TaskGroup() as tasks:
            request = coordinator_pb2.DrainWorkerRequest(worker_id="worker-1", grace_s=2.5)
            draining = tasks.create_task(asyncio.wait_for(cluster.coordinator.DrainWorker(request, timeout=DEADLINE_S), DEADLINE_S))
            command = await worker.obey()
            assert (command.drain.HasField("grace_s"), command.drain.grace_s) == (has_others, 2.5 * has_others)
            await draining


async def test_a_grace_that_is_none_is_refused_by_name() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1"):
        request = coordinator_pb2.DrainWorkerRequest(worker_id="worker-1", grace_s=-1.0)
        refusal = await refused(asyncio.wait_for(cluster.coordinator.DrainWorker(request, timeout=DEADLINE_S), DEADLINE_S))
        assert refusal.reason == "INVALID_FIELD"
        assert "grace_s" in refusal.message


async def test_a_drained_worker_gets_nothing_new_and_a_resumed_one_does() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"], busy_slots=1, queue_depth=2) as worker:
        for is_resume in (False, True):
            async with asyncio.TaskGroup() as tasks:
                request = coordinator_pb2.DrainWorkerRequest(worker_id="worker-1", resume=is_resume)
                draining = tasks.create_task(asyncio.wait_for(cluster.coordinator.DrainWorker(request, timeout=DEADLINE_S), DEADLINE_S))
                command = await worker.command()
                assert command.drain.resume is is_resume
                await worker.report(ready=["sim-a"], busy_slots=1, queue_depth=2, draining=not is_resume)
                await worker.answer(command)
                assert (await draining).unfinished == 3
            if not is_resume:
                assert (await refused(cluster.schedule())).reason == "NO_WORKERS"
        assert (await cluster.schedule()).worker_id == "worker-1"
