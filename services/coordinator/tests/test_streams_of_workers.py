"""Workers' streams on a real server: epochs, broken and replaced streams, silence, bad reports."""

from __future__ import annotations

import asyncio
import urllib.request

import grpc
import structlog
from coordinator_peers import DEADLINE_S, Refused, ended_with, liveness, refusal, report, running_cluster

from roost.v1 import coordinator_pb2, messages_pb2


def read_metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_S) as page:
        text: str = page.read().decode()
        return text


async def test_a_worker_is_welcomed_with_the_terms() -> None:
    async with running_cluster(dead_after_s=7.0) as cluster, cluster.worker("worker-1") as worker:
        assert worker.welcome.dead_after_s == 7.0
        assert worker.welcome.coordinator_epoch > 1_000_000_000_000_000_000


async def test_a_worker_may_tell_what_has_changed_and_is_known_in_full() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]) as worker:
        assert worker.welcome.takes_changes
        new = coordinator_pb2.ConnectRequest(
            report=messages_pb2.WorkerLoadReport(
                node_id="worker-1",
                epoch=1,
                sequence=2,
                base_sequence=1,
                slots=4,
                address="127.0.0.1:8001",
                models=[messages_pb2.ModelStatus(name="sim-b", phase=messages_pb2.MODEL_PHASE_READY, size_bytes=100)],
                removed_models=["sim-a"],
            )
        )
        await worker.call.write(new)
        async with asyncio.timeout(DEADLINE_S):
            while list((await cluster.state()).workers[0].report.loaded_models) != ["sim-b"]:
                pass
        await worker.call.write(new)
        code, details = (await ended_with(worker.call))[:2]
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "base_sequence: must be 2" in str(details)


async def test_a_broken_stream_makes_the_worker_suspect_at_once_and_its_return_makes_it_live() -> None:
    async with running_cluster() as cluster:
        async with cluster.worker("worker-1", ready=["sim-a"]) as worker:
            assert (await cluster.schedule()).worker_id == "worker-1"
            worker.break_off()
            await cluster.await_liveness("worker-1", "SUSPECT")
            async with refusal() as refused:
                await cluster.schedule()
            assert (refused[0].code, refused[0].reason) == (grpc.StatusCode.UNAVAILABLE, "NO_WORKERS")
            assert refused[0].retry_after_s > 0
        async with cluster.worker("worker-1", epoch=2, ready=["sim-a"]):
            assert liveness(await cluster.state(), "worker-1") == "LIVE"
            assert (await cluster.schedule()).worker_id == "worker-1"


async def test_a_worker_that_ends_its_stream_politely_is_suspect_too() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker:
        await worker.call.done_writing()
        assert (await ended_with(worker.call))[0] is grpc.StatusCode.OK
        await cluster.await_liveness("worker-1", "SUSPECT")


async def test_a_worker_that_drains_and_ends_its_stream_has_left_and_is_not_listed_any_more() -> None:
    with structlog.testing.capture_logs() as logged:
        async with running_cluster() as cluster, cluster.worker("worker-1", ready=["sim-a"]) as worker:
            assert (await cluster.schedule()).worker_id == "worker-1"
            await worker.report(ready=["sim-a"], draining=True)
            await worker.call.done_writing()
            assert (await ended_with(worker.call))[0] is grpc.StatusCode.OK
            state = await cluster.await_liveness("worker-1", "absent")
            assert state.total_requests == 1
    assert [event["event"] for event in logged if "worker_id" in event] == ["worker_joined", "worker_left"]


async def test_a_draining_worker_whose_stream_breaks_is_suspect_like_any_other() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker:
        await worker.report(draining=True)
        await cluster.await_state(lambda state: state.active_workers == 0)
        worker.break_off()
        await cluster.await_liveness("worker-1", "SUSPECT")


async def test_a_worker_that_left_may_come_back() -> None:
    async with running_cluster() as cluster:
        for epoch in (1, 2):
            async with cluster.worker("worker-1", epoch=epoch) as worker:
                assert liveness(await cluster.state(), "worker-1") == "LIVE"
                await worker.report(draining=True)
                await worker.call.done_writing()
                await cluster.await_liveness("worker-1", "absent")


async def test_two_living_workers_of_one_name_are_warned_of_once_and_counted() -> None:
    with structlog.testing.capture_logs() as logged:
        async with running_cluster() as cluster, cluster.worker("worker-1", epoch=5) as old, cluster.worker("worker-1", epoch=6):
            await ended_with(old.call)
            for sequence in (10, 11, 12):  # the older one, which lives, comes back again and again
                again = cluster.coordinator.Connect(timeout=DEADLINE_S)
                await again.write(coordinator_pb2.ConnectRequest(report=report("worker-1", epoch=5, sequence=sequence)))
                assert (await ended_with(again))[0] is grpc.StatusCode.ABORTED
            page = await asyncio.to_thread(read_metrics, cluster.running.metrics_port)
    [warning] = [event for event in logged if event["event"] == "worker_superseded"]
    assert (warning["log_level"], warning["worker_id"], warning["epoch"], warning["later_epoch"]) == ("warning", "worker-1", 5, 6)
    assert "--node-id" in warning["fix"]
    assert "roost_superseded_streams_total 4.0" in page


async def test_a_worker_that_restarts_is_no_second_worker() -> None:
    with structlog.testing.capture_logs() as logged:
        async with running_cluster() as cluster, cluster.worker("worker-1", epoch=5) as old, cluster.worker("worker-1", epoch=6):
            await ended_with(old.call)
    assert [event["event"] for event in logged if "worker_id" in event][:2] == ["worker_joined", "worker_restarted"]
    assert "worker_superseded" not in {event["event"] for event in logged}


async def test_a_lost_worker_is_dead_after_the_bound() -> None:
    async with running_cluster(dead_after_s=0.3) as cluster, cluster.worker("worker-1") as worker:
        worker.break_off()
        state = await cluster.await_liveness("worker-1", "DEAD")
        assert 0.3 <= state.workers[0].age_s < DEADLINE_S


async def test_a_worker_that_is_silent_on_an_open_stream_is_dead_after_the_bound_and_its_stream_ends() -> None:
    async with running_cluster(dead_after_s=0.3) as cluster, cluster.worker("worker-1") as worker:
        await cluster.await_liveness("worker-1", "DEAD")
        code, message = await ended_with(worker.call)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "sent no report for" in message
        async with cluster.worker("worker-1", sequence=2):  # the same life, awake again
            assert liveness(await cluster.state(), "worker-1") == "LIVE"


async def test_a_newer_life_takes_the_stream_over_and_an_older_one_is_refused() -> None:
    async with (
        running_cluster() as cluster,
        cluster.worker("worker-1", epoch=5) as old,
        cluster.worker("worker-1", epoch=6, ready=["sim-a"]),
    ):
        code, message = await ended_with(old.call)
        assert code is grpc.StatusCode.ABORTED
        assert "epoch 6" in message
        late = cluster.coordinator.Connect(timeout=DEADLINE_S)
        await late.write(coordinator_pb2.ConnectRequest(report=report("worker-1", epoch=5, sequence=99)))
        assert (await ended_with(late))[0] is grpc.StatusCode.ABORTED
        state = await cluster.state()
        assert liveness(state, "worker-1") == "LIVE"
        assert list(state.workers[0].report.loaded_models) == ["sim-a"]


async def test_a_worker_that_restarts_after_its_clock_went_back_is_taken_at_once() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", epoch=1_000, ready=["sim-a"]) as old:
        old.break_off()
        await cluster.await_liveness("worker-1", "SUSPECT")
        async with cluster.worker("worker-1", epoch=10, ready=["sim-b"]):
            state = await cluster.await_liveness("worker-1", "LIVE")
            [view] = state.workers
            assert (view.report.epoch, list(view.report.loaded_models)) == (10, ["sim-b"])
            assert (await cluster.schedule("sim-b")).worker_id == "worker-1"


async def test_of_two_living_workers_the_one_of_the_later_epoch_has_the_name_whoever_comes_last() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", epoch=1_000) as later:
        later.break_off()
        await cluster.await_liveness("worker-1", "SUSPECT")
        async with cluster.worker("worker-1", epoch=10) as earlier, cluster.worker("worker-1", epoch=1_000, sequence=9):
            assert (await ended_with(earlier.call))[0] is grpc.StatusCode.ABORTED
            again = cluster.coordinator.Connect(timeout=DEADLINE_S)
            await again.write(coordinator_pb2.ConnectRequest(report=report("worker-1", epoch=10, sequence=2)))
            assert (await ended_with(again))[0] is grpc.StatusCode.ABORTED
            assert (await cluster.state()).workers[0].report.epoch == 1_000


async def test_the_same_life_may_connect_again_before_its_old_stream_is_gone() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1", sequence=1) as old, cluster.worker("worker-1", sequence=2):
        assert (await ended_with(old.call))[0] is grpc.StatusCode.ABORTED
        assert liveness(await cluster.state(), "worker-1") == "LIVE"


async def test_an_invalid_report_ends_its_stream_and_nothing_else() -> None:
    async with running_cluster() as cluster, cluster.worker("good", ready=["sim-a"]) as good, cluster.worker("bad") as bad:
        await bad.report(gpu_utilization=1.5)
        code, message = await ended_with(bad.call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "gpu_utilization" in message
        await cluster.await_liveness("bad", "SUSPECT")
        await good.report(ready=["sim-a"], queue_depth=3)
        await cluster.await_state(lambda state: state.total_queue_depth == 3)
        assert (await cluster.schedule()).worker_id == "good"


async def test_a_stream_keeps_its_worker_and_its_life() -> None:
    async with running_cluster() as cluster:
        for changed, field in (({"node_id": "worker-2"}, "node_id"), ({"epoch": 9}, "epoch")):
            async with cluster.worker("worker-1", sequence=0) as worker:
                await worker.call.write(coordinator_pb2.ConnectRequest(report=report(**{"node_id": "worker-1", "epoch": 1, **changed})))  # type: ignore[arg-type]
                code, message = await ended_with(worker.call)
                assert code is grpc.StatusCode.INVALID_ARGUMENT
                assert f"{field}: may not change" in message


async def test_a_stream_begins_with_a_report() -> None:
    async with running_cluster() as cluster:
        for message in (
            coordinator_pb2.ConnectRequest(result=coordinator_pb2.CommandResult(command_id="x")),
            coordinator_pb2.ConnectRequest(),
        ):
            call = cluster.coordinator.Connect(timeout=DEADLINE_S)
            await call.write(message)
            code, details = await ended_with(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "report" in details


async def test_a_full_view_refuses_a_new_worker_and_keeps_the_known_ones() -> None:
    async with running_cluster(max_workers=1) as cluster, cluster.worker("worker-1"):
        call = cluster.coordinator.Connect(timeout=DEADLINE_S)
        await call.write(coordinator_pb2.ConnectRequest(report=report("worker-2", epoch=1, sequence=1)))
        assert (await ended_with(call))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert liveness(await cluster.state(), "worker-1") == "LIVE"


async def test_a_simple_reporter_feeds_the_same_view() -> None:
    async with running_cluster() as cluster:
        accepted = [
            (await cluster.coordinator.ReportLoad(coordinator_pb2.ReportLoadRequest(report=one), timeout=DEADLINE_S)).accepted
            for one in (
                report("simple-1", ready=["sim-x"], epoch=2, sequence=5),
                report("simple-1", ready=["sim-y"], epoch=2, sequence=4),
                report("simple-1", ready=["sim-z"], epoch=1, sequence=9),
            )
        ]
        assert accepted == [True, False, False]
        decision = await cluster.schedule("sim-x")
        assert decision.worker_id == "simple-1"


async def test_an_invalid_simple_report_names_its_field() -> None:
    async with running_cluster() as cluster:
        async with refusal() as refused:
            await cluster.coordinator.ReportLoad(coordinator_pb2.ReportLoadRequest(report=report("no spaces")), timeout=DEADLINE_S)
        [answer] = refused
        assert isinstance(answer, Refused)
        assert (answer.code, answer.reason, answer.field) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "node_id")


async def test_streams_are_ended_politely_when_the_coordinator_stops() -> None:
    async with running_cluster() as cluster, cluster.worker("worker-1") as worker:
        await cluster.stop()
        code, message = await ended_with(worker.call)
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "the coordinator is stopping" in message
