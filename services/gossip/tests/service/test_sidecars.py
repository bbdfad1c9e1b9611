"""Several sidecars on loopback: what one worker says, every sidecar decides by."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import grpc
import pytest
from grpc import aio

from roost.gossip.app import sidecar
from roost.gossip.settings import GossipSettings
from roost.placement.recording.reading import Reader
from roost.placement.recording.replay import verify
from roost.service.startup import PortTaken
from roost.v1 import gossip_pb2, scheduler_pb2, state_pb2

from .sidecars import DEADLINE_S, FakeWorker, cluster, live, liveness, ready_on, running


async def test_what_a_worker_tells_its_sidecar_every_sidecar_decides_by() -> None:
    async with cluster(3) as members, members[0].worker(), members[1].worker(ready=["sim-a"], address="127.0.0.1:8002"):
        for member in members:
            await member.await_state(lambda state: ready_on(state, "sim-a") == ["worker-2"])
            decision = await member.schedule("sim-a")
            assert (decision.worker_id, decision.action, decision.plane) == (
                "worker-2",
                scheduler_pb2.ACTION_SERVE,
                scheduler_pb2.PLANE_GOSSIP,
            )
            assert decision.worker_address == "127.0.0.1:8002"
            assert decision.view_age_s < 6


async def test_a_dry_run_at_a_sidecar_leaves_nothing_behind() -> None:
    async with cluster(2) as members, members[0].worker(ready=["sim-a"]):
        asked = members[1]
        await asked.await_state(lambda state: ready_on(state, "sim-a") == ["worker-1"])
        foretold = await asked.schedule("sim-a", dry_run=True)
        assert (foretold.worker_id, foretold.dry_run, foretold.decision_id) == ("worker-1", True, "")
        state = await asked.state()
        assert (state.total_requests, [worker.reservations for worker in state.workers]) == (0, [0])
        assert not (await asked.schedule("sim-a")).dry_run


async def test_a_view_of_another_sidecars_worker_has_everything_that_placement_needs() -> None:
    busy = {"queue_depth": 3, "busy_slots": 2, "gpu_utilization": 0.5, "gpu_source": state_pb2.GPU_SOURCE_NVML, "epoch": 7}
    timings = [state_pb2.ModelTiming(name="sim-a", service_time_s=0.5, load_time_s=2.0)]
    async with cluster(2) as (one, other), one.worker(epoch=7) as worker:
        await worker.report(ready=["sim-a"], timings=timings, **{key: value for key, value in busy.items() if key != "epoch"})
        state = await other.await_state(lambda state: any(view.report.queue_depth == 3 and view.report.models for view in state.workers))
        [view] = state.workers
        seen = view.report
        assert (seen.queue_depth, seen.busy_slots, seen.gpu_utilization, seen.gpu_source, seen.epoch) == tuple(busy.values())
        assert (seen.address, seen.slots, seen.memory_capacity_bytes) == ("127.0.0.1:8001", 4, 1000)
        assert [(model.name, model.phase, model.size_bytes) for model in seen.models] == [("sim-a", state_pb2.MODEL_PHASE_READY, 100)]
        assert list(seen.timings) == timings
        names = {model.model.name for model in state.models}
        assert {"sim-a", "sim-b"} <= names


async def test_a_load_that_changes_is_seen_everywhere_within_two_seconds() -> None:
    async with cluster(3) as members, members[0].worker() as worker:
        await members[2].await_live("worker-1")
        async with asyncio.timeout(2):
            await worker.report(queue_depth=9)
            await members[2].await_state(lambda state: any(view.report.queue_depth == 9 for view in state.workers))


async def test_a_worker_that_leaves_its_sidecar_gets_no_new_work_anywhere_until_it_is_back() -> None:
    async with cluster(2) as (one, other):
        async with one.worker(ready=["sim-a"]) as worker:
            await other.await_live("worker-1")
            worker.break_off()
            for member in (one, other):
                state = await member.await_state(lambda state: liveness(state, "worker-1") == "suspect")
                assert not live(state)
            with pytest.raises(aio.AioRpcError) as refused:
                await other.schedule("sim-a")
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        async with one.worker(epoch=2, ready=["sim-a"]):
            await other.await_live("worker-1")
            assert (await other.schedule("sim-a")).worker_id == "worker-1"


async def test_a_worker_that_stays_away_is_dead_after_the_bound() -> None:
    async with cluster(2, dead_after_s=0.3) as (one, other):
        async with one.worker(ready=["sim-a"]):
            await other.await_live("worker-1")
        for member in (one, other):
            await member.await_state(lambda state: liveness(state, "worker-1") == "dead")


async def test_a_draining_worker_is_seen_to_drain() -> None:
    async with cluster(2) as (one, other), one.worker() as worker:
        await other.await_live("worker-1")
        await worker.report(draining=True)
        await other.await_state(lambda state: state.active_workers == 0 and liveness(state, "worker-1") == "live")


async def test_a_sidecar_that_leaves_takes_its_worker_out_of_the_views() -> None:
    async with cluster(3) as members, members[2].worker():
        await members[0].await_live("worker-3")
        await members[2].stop()
        await members[0].await_members(worker_3="left")
        await members[0].await_state(lambda state: liveness(state, "worker-3") == "absent")


async def test_leave_asks_the_sidecar_to_end() -> None:
    async with running("worker-1") as member:
        assert not member.running.left.is_set()
        await member.gossip.Leave(gossip_pb2.LeaveRequest(), timeout=DEADLINE_S)
        assert member.running.left.is_set()


async def test_a_sidecar_that_comes_back_is_a_new_life_and_its_worker_is_live_again() -> None:
    async with cluster(2) as (one, other):
        async with running("worker-3", one) as third:
            async with third.worker():
                await other.await_live("worker-3")
                [before] = [each.epoch for each in (await other.await_members(worker_3="alive")).members if each.node_id == "worker-3"]
                port = third.running.port
            await third.stop()
        await other.await_members(worker_3="left")
        async with running("worker-3", one, port=port) as third, third.worker(epoch=2):
            await other.await_live("worker-3")
            [after] = [each.epoch for each in (await other.await_members(worker_3="alive")).members if each.node_id == "worker-3"]
            assert after > before


async def test_a_request_that_may_wait_is_decided_when_a_worker_appears_at_another_sidecar() -> None:
    async with cluster(2) as (one, other):
        waiting = asyncio.ensure_future(one.schedule("gemma-3-270m", allow_queueing=True, deadline_s=DEADLINE_S))
        await one.state()  # the request was sent before this, on the same channel
        async with other.worker(models=["gemma-3-270m"]):
            async with asyncio.timeout(5):
                assert (await waiting).worker_id == "worker-2"


async def test_what_a_sidecar_recorded_is_decided_the_same_again(tmp_path: Path) -> None:
    file = tmp_path / "decisions.jsonl"
    async with contextlib.AsyncExitStack() as stack:
        one, other = await stack.enter_async_context(cluster(2))
        third = await stack.enter_async_context(running("worker-3", one, record=file, policy="expected-wait"))
        await stack.enter_async_context(one.worker(ready=["sim-a"]))
        worker = await stack.enter_async_context(other.worker(ready=["sim-b"], address="127.0.0.1:8002"))
        await stack.enter_async_context(third.worker())
        await third.await_live("worker-1", "worker-2", "worker-3")
        for number in range(20):
            await third.schedule("sim-a" if number % 3 else "sim-b", priority=number % 10)
        await worker.report(ready=["sim-a", "sim-b"], queue_depth=3)
        await third.await_state(lambda state: ready_on(state, "sim-a") == ["worker-1", "worker-2"])
        for _ in range(10):
            await third.schedule("sim-a", allow_queueing=True)
    with file.open() as lines:
        result = verify(Reader().read(lines), random.Random)
    assert result.difference is None
    assert result.decisions == result.identical == 30


async def test_the_sidecar_counts_what_it_decided_before_its_workers_tell_of_it() -> None:
    async with cluster(3) as members, members[0].worker(ready=["sim-a"]), members[1].worker(ready=["sim-a"], address="127.0.0.1:8002"):
        await members[2].await_live("worker-1", "worker-2")
        chosen = [(await members[2].schedule("sim-a")).worker_id for _ in range(10)]
        assert abs(chosen.count("worker-1") - chosen.count("worker-2")) <= 4
        await members[2].await_state(lambda state: sum(view.reservations for view in state.workers) == 0)


async def test_a_scheduling_stream_is_answered_by_a_sidecar_too() -> None:
    async with running("worker-1") as member, member.worker(ready=["sim-a"]):
        stream = member.scheduler.ScheduleStream(timeout=DEADLINE_S)
        request = scheduler_pb2.ScheduleRequest(request_id="r1", model_required="sim-a")
        await stream.write(scheduler_pb2.ScheduleStreamRequest(request=request))
        answer = await stream.read()
        assert isinstance(answer, scheduler_pb2.ScheduleStreamResponse)
        assert (answer.request_id, answer.response.worker_id) == ("r1", "worker-1")
        stream.cancel()


async def refused_with(worker: FakeWorker) -> tuple[grpc.StatusCode, str]:
    with contextlib.suppress(aio.AioRpcError):
        await worker.call.read()
    return await worker.call.code(), await worker.call.details() or ""


async def test_a_sidecar_takes_the_reports_of_its_own_worker_only() -> None:
    async with running("worker-1") as member:
        call = member.gossip.Publish(timeout=DEADLINE_S)
        await call.write(gossip_pb2.PublishRequest(report=state_pb2.WorkerLoadReport(node_id="worker-9")))
        with contextlib.suppress(aio.AioRpcError):
            await call.read()
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "node_id: must be worker-1" in (await call.details() or "")


async def test_the_newest_stream_of_a_worker_is_the_one_that_counts() -> None:
    async with running("worker-1") as member, member.worker(epoch=1) as first, member.worker(epoch=2):
        code, why = await refused_with(first)
        assert (code, "newer stream" in why) == (grpc.StatusCode.ABORTED, True)
        assert live(await member.state()) == {"worker-1"}
        older = FakeWorker(member, 1)
        await older.report()
        assert (await refused_with(older))[0] is grpc.StatusCode.ABORTED


async def test_a_worker_that_restarts_after_its_clock_went_back_is_live_everywhere_at_once() -> None:
    async with cluster(2) as (one, other), one.worker(epoch=1_000, ready=["sim-a"]) as old:
        await other.await_live("worker-1")
        old.break_off()
        await one.await_state(lambda state: liveness(state, "worker-1") == "suspect")
        async with one.worker(epoch=10, ready=["sim-b"]):
            for member in (one, other):
                state = await member.await_state(lambda state: live(state) == {"worker-1"} and ready_on(state, "sim-b") == ["worker-1"])
                assert [view.report.epoch for view in state.workers] == [10]


async def test_a_name_that_is_taken_is_a_conflict_and_the_first_holder_stays() -> None:
    async with cluster(2) as (one, other), one.worker():
        await other.await_live("worker-1")
        async with running("worker-1", other) as impostor:
            await impostor.state()
            async with asyncio.timeout(DEADLINE_S):
                while not (other.count("claims_conflict") + one.count("claims_conflict") + impostor.count("claims_conflict")):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        assert liveness(await other.state(), "worker-1") == "live"


async def test_a_taken_port_is_said_before_anything_starts() -> None:
    async with running("worker-1") as member:
        with pytest.raises(PortTaken, match=r"another process .*--port"):
            async with sidecar(GossipSettings(node_id="worker-2", port=member.running.port, grpc_port=0, metrics_port=0)):
                pass


async def test_a_join_on_demand_reaches_a_cluster_that_was_not_a_seed() -> None:
    async with running("worker-1") as one, running("worker-2") as two:
        assert await one.members() == {"worker-1": "alive"}
        await two.gossip.Join(gossip_pb2.JoinRequest(seeds=[one.seed]), timeout=DEADLINE_S)
        await one.await_members(worker_2="alive")
        with pytest.raises(aio.AioRpcError) as refused:
            await two.gossip.Join(gossip_pb2.JoinRequest(seeds=["no:port:here"]), timeout=DEADLINE_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_seeds_may_be_names_and_one_that_is_oneself_is_no_harm() -> None:
    async with running("worker-1") as one, contextlib.AsyncExitStack() as stack:
        two = await stack.enter_async_context(running("worker-2", seeds=f"no-such-host.invalid:7946,localhost:{one.running.port}"))
        await one.await_members(worker_2="alive")
        assert (await two.members())["worker-1"] == "alive"
