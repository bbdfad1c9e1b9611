"""What the coordinator tells of the cluster, once and as it changes."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from coordinator_peers import DEADLINE_S, liveness, refusal, report, running_cluster

from roost.v1 import coordinator_pb2, scheduler_pb2, state_pb2


async def test_the_totals_count_live_workers_and_all_decisions() -> None:
    async with (
        running_cluster() as cluster,
        cluster.worker("one", ready=["sim-a"], queue_depth=1, gpu_utilization=0.5),
        cluster.worker("two", queue_depth=2, gpu_utilization=0.25) as two,
        cluster.worker("three", queue_depth=100, gpu_utilization=1.0) as three,
    ):
        three.break_off()
        await cluster.await_liveness("three", "SUSPECT")
        hit, cold = await cluster.schedule("sim-a"), await cluster.schedule("sim-b")
        outcome = state_pb2.DecisionOutcome(decision_id=cold.decision_id, cache_result=state_pb2.CACHE_RESULT_JOIN)
        await two.report(queue_depth=2, gpu_utilization=0.25, outcomes=[outcome])
        state = await cluster.await_state(lambda state: state.joins == 1)
        assert hit.action == scheduler_pb2.ACTION_SERVE
        assert (state.total_requests, state.cache_hits, state.cold_starts, state.joins) == (2, 1, 0, 1)
        assert state.cache_hit_rate == 0.5
        assert (state.active_workers, state.total_queue_depth, state.average_gpu_utilization) == (2, 3, 0.375)
        assert [worker.report.node_id for worker in state.workers] == ["one", "three", "two"]
        assert (state.plane, state.policy) == (scheduler_pb2.PLANE_CENTRAL, "expected-wait")
        [known] = [model for model in state.models if model.model.name == "sim-a"]
        assert list(known.ready_on) == ["one"]


async def test_a_watcher_gets_the_state_at_once_and_again_when_it_has_changed() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]) as worker:
        call = cluster.scheduler.WatchClusterState(scheduler_pb2.WatchClusterStateRequest(interval_s=0.05), timeout=DEADLINE_S)
        first = await call.read()
        assert isinstance(first, scheduler_pb2.WatchClusterStateResponse)
        assert liveness(first.state, "worker-1") == "LIVE"
        for depth in (1, 2):
            await worker.report(ready=["sim-a"], queue_depth=depth)
            changed = await call.read()
            assert isinstance(changed, scheduler_pb2.WatchClusterStateResponse)
            assert changed.state.total_queue_depth == depth
        await cluster.schedule()
        decided = await call.read()
        assert isinstance(decided, scheduler_pb2.WatchClusterStateResponse)
        assert (decided.state.total_requests, decided.state.workers[0].reservations) == (1, 1)


async def test_a_watcher_that_does_not_read_misses_states_and_costs_nothing() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker:
        slow = cluster.scheduler.WatchClusterState(scheduler_pb2.WatchClusterStateRequest(interval_s=0.05), timeout=DEADLINE_S)
        await slow.read()
        for depth in range(1, 301):
            await worker.report(queue_depth=depth)
        await cluster.await_state(lambda state: state.total_queue_depth == 300)
        read = 0
        while True:
            answer = await slow.read()
            assert isinstance(answer, scheduler_pb2.WatchClusterStateResponse)
            read += 1
            if answer.state.total_queue_depth == 300:
                break
        assert read < 100


@pytest.mark.parametrize("interval_s", [0.01, 61.0, -1.0, float("nan")])
async def test_a_watch_interval_out_of_bounds_is_refused(interval_s: float) -> None:
    async with running_cluster() as cluster:
        call = cluster.scheduler.WatchClusterState(scheduler_pb2.WatchClusterStateRequest(interval_s=interval_s), timeout=DEADLINE_S)
        async with refusal() as refused:
            await call.read()
        assert (refused[0].code, refused[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, "interval_s")


async def test_watchers_are_told_when_the_coordinator_stops() -> None:
    async with running_cluster() as cluster:
        call = cluster.scheduler.WatchClusterState(scheduler_pb2.WatchClusterStateRequest(interval_s=60), timeout=DEADLINE_S)
        await call.read()
        await cluster.stop()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert "stopping" in (await call.details() or "")


async def test_thousands_of_fast_reports_leave_one_entry_and_every_decision_still_answers() -> None:
    async with running_cluster() as cluster:
        gate = asyncio.Semaphore(100)

        async def tell(number: int) -> None:
            async with gate:
                one = report(f"simple-{number % 10}", ready=["sim-a"], queue_depth=number)
                await cluster.coordinator.ReportLoad(coordinator_pb2.ReportLoadRequest(report=one), timeout=DEADLINE_S)

        async with asyncio.TaskGroup() as tasks:
            for number in range(5_000):
                tasks.create_task(tell(number))
        state = await cluster.state()
        assert len(state.workers) == 10
        assert (await cluster.schedule()).worker_id.startswith("simple-")
