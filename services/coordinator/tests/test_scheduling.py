"""Decisions on a real server: one at a time, pipelined, refused, waiting."""

from __future__ import annotations

import asyncio
import contextlib
import random
import urllib.request
from collections import Counter
from pathlib import Path

import grpc
import pytest
from coordinator_peers import DEADLINE_S, Cluster, refusal, running_cluster
from grpc import aio

from roost.placement.recording.reading import Reader
from roost.placement.recording.replay import verify
from roost.v1 import coordinator_pb2, scheduler_pb2, state_pb2

StreamCall = aio.StreamStreamCall[scheduler_pb2.ScheduleStreamRequest, scheduler_pb2.ScheduleStreamResponse]


def asked(request_id: str, model: str = "sim-a", **fields: object) -> scheduler_pb2.ScheduleStreamRequest:
    request = scheduler_pb2.ScheduleRequest(request_id=request_id, model_required=model, **fields)  # type: ignore[arg-type]
    return scheduler_pb2.ScheduleStreamRequest(request=request)


async def answer(call: StreamCall) -> scheduler_pb2.ScheduleStreamResponse:
    got = await call.read()
    assert isinstance(got, scheduler_pb2.ScheduleStreamResponse), f"the stream ended: {await call.code()}"
    return got


async def in_flight(cluster: Cluster, call: StreamCall) -> None:
    """Returns when everything written so far has been taken up: a refusal of a later request says so."""
    await call.write(asked("probe", "no-such-model"))
    assert (await answer(call)).request_id == "probe"


async def test_a_decision_is_explained_with_what_was_considered_and_what_became_of_it() -> None:
    async with running_cluster(policy="expected-wait") as cluster, cluster.worker("worker-1", ready=["sim-a"]) as worker:
        decision = await cluster.schedule("sim-a", request_id="mine", priority=3)
        [record] = (await cluster.scheduler.ExplainDecision(scheduler_pb2.ExplainDecisionRequest(request_id="mine"), timeout=5)).records
        assert (record.response, record.request.priority, record.HasField("refusal")) == (decision, 3, False)
        [considered] = record.considered
        assert (considered.worker_id, considered.phase, considered.slots) == ("worker-1", state_pb2.MODEL_PHASE_READY, 4)
        assert considered.HasField("cost")
        assert record.outcome == state_pb2.CACHE_RESULT_UNSPECIFIED
        told = state_pb2.DecisionOutcome(decision_id=decision.decision_id, cache_result=state_pb2.CACHE_RESULT_HIT)
        await worker.report(ready=["sim-a"], outcomes=[told])
        await cluster.await_state(lambda state: state.cache_hits == 1)
        [record] = (await cluster.scheduler.ExplainDecision(scheduler_pb2.ExplainDecisionRequest(request_id="mine"), timeout=5)).records
        assert record.outcome == state_pb2.CACHE_RESULT_HIT
        assert record.settled_after_s > 0


async def test_a_dry_run_answers_and_leaves_nothing_behind() -> None:
    async with running_cluster(policy="expected-wait") as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        before = await cluster.state()
        for model, action in (("sim-a", scheduler_pb2.ACTION_SERVE), ("sim-b", scheduler_pb2.ACTION_COLD_START)):
            answer_ = await cluster.schedule(model, request_id="dry", dry_run=True)
            assert (answer_.worker_id, answer_.action, answer_.dry_run, answer_.decision_id) == ("worker-1", action, True, "")
        after = await cluster.state()
        assert (after.total_requests, after.cache_hits, after.cold_starts) == (before.total_requests, 0, 0)
        assert [worker.reservations for worker in after.workers] == [0]
        with pytest.raises(grpc.aio.AioRpcError, match="dry"):
            await cluster.scheduler.ExplainDecision(scheduler_pb2.ExplainDecisionRequest(request_id="dry"), timeout=5)
        assert not (await cluster.schedule("sim-a")).dry_run


async def test_a_dry_run_that_may_wait_is_refused_by_its_field() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        with pytest.raises(grpc.aio.AioRpcError, match="allow_queueing") as refused:
            await cluster.schedule("sim-a", dry_run=True, allow_queueing=True)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_carries_dry_runs_beside_requests() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        call: StreamCall = cluster.scheduler.ScheduleStream(timeout=10)
        for number, is_dry in enumerate((True, False, True)):
            wire = scheduler_pb2.ScheduleRequest(request_id=f"r{number}", model_required="sim-a", dry_run=is_dry)
            await call.write(scheduler_pb2.ScheduleStreamRequest(request=wire))
            assert (await answer(call)).response.dry_run is is_dry
        call.cancel()
        assert (await cluster.state()).total_requests == 1


async def test_a_refused_request_is_explained_too_and_one_that_nobody_knows_is_not() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        with pytest.raises(grpc.aio.AioRpcError):
            await cluster.schedule("sim-aa", request_id="wrong")
        [record] = (await cluster.scheduler.ExplainDecision(scheduler_pb2.ExplainDecisionRequest(request_id="wrong"), timeout=5)).records
        assert (record.refusal.reason, len(record.considered)) == ("UNKNOWN_MODEL", 0)
        for request_id, code in (("never", grpc.StatusCode.NOT_FOUND), ("", grpc.StatusCode.INVALID_ARGUMENT)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await cluster.scheduler.ExplainDecision(scheduler_pb2.ExplainDecisionRequest(request_id=request_id), timeout=5)
            assert refused.value.code() is code


async def test_a_worker_on_which_a_model_fails_is_passed_over_and_everybody_is_told_why() -> None:
    why = "1 load in a row failed (no such file)"
    async with running_cluster(policy="affinity") as cluster, cluster.worker("bad") as bad, cluster.worker("good") as good:
        await good.report(queue_depth=9)
        await bad.report(failing=[state_pb2.FailingModel(name="sim-a", failed_loads=1, why="no such file")])
        state = await cluster.await_state(lambda state: any(model.passed_over for model in state.models))
        (failing,) = [model for model in state.models if model.passed_over]
        assert (failing.model.name, failing.passed_over[0].worker_id, failing.passed_over[0].why) == ("sim-a", "bad", why)
        assert 0 < failing.passed_over[0].retry_in_s <= 1
        assert (await cluster.schedule("sim-a", request_id="mine")).worker_id == "good"
        [record] = (await cluster.scheduler.ExplainDecision(scheduler_pb2.ExplainDecisionRequest(request_id="mine"), timeout=5)).records
        assert [(each.worker_id, each.why) for each in record.passed_over] == [("bad", why)]
        await bad.report(failing=[state_pb2.FailingModel(name="sim-a", failed_loads=9, why="no such file")])
        await cluster.await_state(lambda state: any(each.retry_in_s > 9 for model in state.models for each in model.passed_over))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await cluster.schedule("sim-a", excluded_workers=["good"], allow_queueing=True)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "9 loads in a row failed (no such file)" in str(refused.value.details())


async def test_a_decision_carries_all_that_a_client_needs() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"], address="10.0.0.7:8001"):
        warm = await cluster.schedule("sim-a", request_id="mine", priority=3)
        cold = await cluster.schedule("sim-b")
        assert (warm.worker_id, warm.worker_address, warm.request_id) == ("worker-1", "10.0.0.7:8001", "mine")
        assert (warm.action, cold.action) == (scheduler_pb2.ACTION_SERVE, scheduler_pb2.ACTION_COLD_START)
        assert (warm.plane, warm.policy) == (scheduler_pb2.PLANE_CENTRAL, "expected-wait")
        assert warm.decision_id
        assert warm.decision_id != cold.decision_id
        assert "worker-1" in warm.reason
        assert cold.request_id  # the decider names what its caller did not


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        ({"model_required": ""}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "model_required"),
        ({"priority": 11}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "priority"),
        ({"max_tokens": -1}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "max_tokens"),
        ({"deadline_s": float("nan")}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "deadline_s"),
        ({"request_id": "x" * 129}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "request_id"),
        ({"model_required": "sim-aa"}, grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL", ""),
        ({"excluded_workers": ["worker-1"]}, grpc.StatusCode.UNAVAILABLE, "NO_WORKERS", ""),
    ],
)
async def test_each_refusal_has_its_status_reason_and_field(
    fields: dict[str, object], code: grpc.StatusCode, reason: str, field: str
) -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1"):
        request = scheduler_pb2.ScheduleRequest(**{"model_required": "sim-a", **fields})  # type: ignore[arg-type]
        async with refusal() as refused:
            await cluster.scheduler.Schedule(request, timeout=DEADLINE_S)
        assert (refused[0].code, refused[0].reason, refused[0].field) == (code, reason, field)


async def test_models_of_the_catalogue_are_known_before_any_worker_connects() -> None:
    async with running_cluster() as cluster:
        name = (await cluster.state()).models[0].model.name
        async with refusal() as refused:
            await cluster.schedule(name)
        assert refused[0].reason == "NO_WORKERS"


@pytest.mark.parametrize("policy", ["weighted-score", "least-loaded", "round-robin"])
async def test_a_burst_between_two_reports_spreads(policy: str) -> None:
    async with (
        running_cluster(policy=policy) as cluster,
        cluster.worker("one", ready=["sim-a"]),
        cluster.worker("two", ready=["sim-a"]),
        cluster.worker("three", ready=["sim-a"]),
        cluster.worker("four", ready=["sim-a"]),
    ):
        answers = await asyncio.gather(*(cluster.schedule() for _ in range(100)))
        chosen = Counter(one.worker_id for one in answers)
        assert set(chosen) == {"one", "two", "three", "four"}
        assert max(chosen.values()) <= 26
        assert len({one.decision_id for one in answers}) == 100


async def test_a_stream_answers_pipelined_requests_each_by_its_id() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        call = cluster.scheduler.ScheduleStream(timeout=DEADLINE_S)

        async def ask() -> None:
            for number in range(500):
                await call.write(asked(f"r{number}"))
            await call.done_writing()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask())
            answers = [one async for one in call]
        assert {one.request_id for one in answers} == {f"r{number}" for number in range(500)}
        assert all(one.response.request_id == one.request_id and one.response.worker_id == "worker-1" for one in answers)


async def test_a_bad_request_on_a_stream_gets_a_refusal_and_the_stream_lives() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]):
        call = cluster.scheduler.ScheduleStream(timeout=DEADLINE_S)
        refusals = {}
        for one in (asked("a", priority=11), asked("b", "sim-aa"), asked(""), asked("d", excluded_workers=["worker-1"])):
            await call.write(one)
            got = await answer(call)
            refusals[got.request_id] = (got.refusal.code, got.refusal.reason)
            assert got.refusal.message
        assert refusals == {"a": (3, "INVALID_FIELD"), "b": (5, "UNKNOWN_MODEL"), "": (3, "INVALID_FIELD"), "d": (14, "NO_WORKERS")}
        await call.write(asked("good"))
        assert (await answer(call)).response.worker_id == "worker-1"


async def test_a_request_that_may_wait_is_answered_when_a_worker_comes_and_others_overtake_it() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", models=["sim-b"], ready=["sim-b"]):
        await cluster.coordinator.ReportLoad(simple_report("old", "sim-x"), timeout=DEADLINE_S)
        call = cluster.scheduler.ScheduleStream(timeout=DEADLINE_S)
        await call.write(asked("waits", "sim-b", allow_queueing=True, excluded_workers=["worker-1", "old"]))
        await call.write(asked("overtakes", "sim-b"))
        assert (await answer(call)).request_id == "overtakes"
        await call.write(asked("waits", "sim-b"))
        duplicate = await answer(call)
        assert (duplicate.refusal.code, duplicate.request_id) == (3, "waits")
        assert "in flight" in duplicate.refusal.message
        async with cluster.worker("worker-2", models=["sim-b"]):
            late = await answer(call)
            assert (late.request_id, late.response.worker_id) == ("waits", "worker-2")
            await call.write(asked("waits", "sim-b"))  # its id is free again
            assert (await answer(call)).response.worker_id == "worker-1"


def simple_report(node_id: str, model: str) -> coordinator_pb2.ReportLoadRequest:
    return coordinator_pb2.ReportLoadRequest(report=state_pb2.WorkerLoadReport(node_id=node_id, loaded_models=[model]))


async def test_a_call_that_may_wait_is_answered_when_a_drained_worker_resumes() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", draining=True) as worker, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(cluster.schedule(allow_queueing=True))
        call = cluster.scheduler.ScheduleStream(timeout=DEADLINE_S)
        await in_flight(cluster, call)
        await worker.report()
        assert (await waiting).worker_id == "worker-1"


async def test_how_long_a_request_waited_is_measured_by_its_priority() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", draining=True) as worker:
        call = cluster.scheduler.ScheduleStream(timeout=DEADLINE_S)
        await call.write(asked("waits", allow_queueing=True, priority=4))
        await in_flight(cluster, call)
        await worker.report()
        assert (await answer(call)).request_id == "waits"
        await cluster.schedule(priority=7)  # decided at once
        with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{cluster.running.metrics_port}/metrics") as page:
            counted = [line for line in page.read().decode().splitlines() if line.startswith("roost_decider_wait_seconds_count")]
        assert [line for line in counted if not line.endswith(" 0.0")] == ['roost_decider_wait_seconds_count{priority="4"} 1.0']


async def test_what_was_recorded_is_decided_the_same_again(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    async with running_cluster(record=file, policy="expected-wait") as cluster:
        async with cluster.worker("worker-1", ready=["sim-a"]), cluster.worker("worker-2", ready=["sim-b"], draining=True) as other:
            for number in range(20):
                await cluster.schedule(f"sim-{'ab'[number % 2]}", priority=number % 10)
            await other.report(ready=["sim-b"])
            async with refusal():
                await cluster.schedule("sim-unknown")
            for _ in range(20):
                await cluster.schedule("sim-b")
            async with refusal():
                await cluster.schedule("sim-b", allow_queueing=True, excluded_workers=["worker-1", "worker-2"], deadline_s=0.05)
        await cluster.stop()
    with file.open() as lines:
        result = verify(Reader().read(lines), random.Random)
    assert result.difference is None
    assert result.decisions == result.identical == 42  # the last one of them when its deadline came


async def test_nobody_waits_longer_than_their_deadline() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", draining=True):
        async with refusal() as refused:
            await cluster.schedule(allow_queueing=True, deadline_s=0.05)
        assert refused[0].reason == "NO_WORKERS"
        assert "within 0.05 s" in refused[0].message


async def test_those_who_wait_are_told_when_the_coordinator_stops() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", draining=True):
        call = cluster.scheduler.ScheduleStream(timeout=DEADLINE_S)
        await call.write(asked("waits", allow_queueing=True))
        await in_flight(cluster, call)
        await cluster.stop()
        with contextlib.suppress(grpc.aio.AioRpcError):  # the call may end before the answer is sent, and ends by the same refusal
            got = await call.read()
            if isinstance(got, scheduler_pb2.ScheduleStreamResponse):
                assert got.refusal.reason == "SERVER_STOPPING"
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_that_breaks_off_leaves_its_places_to_others() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", draining=True) as worker:
        call = cluster.scheduler.ScheduleStream(timeout=DEADLINE_S)
        for number in range(50):
            await call.write(asked(f"r{number}", allow_queueing=True))
        await in_flight(cluster, call)
        call.cancel()
        other = cluster.scheduler.ScheduleStream(timeout=DEADLINE_S)
        await other.write(asked("mine", allow_queueing=True))
        await in_flight(cluster, other)
        await worker.report()
        assert (await answer(other)).response.worker_id == "worker-1"
        state = await cluster.state()
        assert state.total_requests in range(1, 52)


async def test_a_worker_is_told_to_copy_a_hot_model_and_those_who_wait_go_there() -> None:
    async with (
        running_cluster(policy="expected-wait") as cluster,
        cluster.worker("hot", ready=["sim-a"]),
        cluster.worker("idle") as idle,
        asyncio.TaskGroup() as tasks,
    ):
        asking = [tasks.create_task(cluster.schedule(allow_queueing=True)) for _ in range(30)]
        command = await idle.obey()
        assert (command.load_model.model, command.load_model.pin) == ("sim-a", False)
        done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        while not any(task.result().worker_id == "idle" for task in done):
            done, _ = await asyncio.wait(set(asking) - done, return_when=asyncio.FIRST_COMPLETED)
        for task in asking:
            task.cancel()
