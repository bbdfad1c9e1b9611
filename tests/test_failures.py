"""Processes are killed; nobody but their own requests notices."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from local_cluster import LocalCluster, liveness

from roost.v1 import scheduler_pb2, worker_pb2

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(make_cluster: Callable[..., LocalCluster], simulated_models: Path) -> LocalCluster:
    cluster = make_cluster(models_file=simulated_models, policy="round-robin")
    cluster.start_coordinator()
    for number in (1, 2, 3):
        cluster.start_worker(f"worker-{number}", "--memory", "250MB")
    cluster.await_live(3)
    return cluster


def test_a_killed_worker_gets_no_new_request_is_dead_after_ten_seconds_and_back_within_two(cluster: LocalCluster) -> None:
    cluster.kill("worker-2")
    killed_at = time.monotonic()
    cluster.await_state(lambda state: liveness(state, "worker-2") == "SUSPECT", deadline_s=2)
    chosen = {cluster.generate("sim-a")[0].worker_id for _ in range(9)}
    assert chosen == {"worker-1", "worker-3"}

    cluster.await_state(lambda state: liveness(state, "worker-2") == "DEAD", deadline_s=15)
    assert 8.5 <= time.monotonic() - killed_at <= 12

    cluster.start_worker("worker-2", "--memory", "250MB")
    cluster.await_state(lambda state: liveness(state, "worker-2") == "LIVE", deadline_s=2)
    assert "worker-2" in {cluster.generate("sim-a")[0].worker_id for _ in range(3)}


def test_a_restarted_coordinator_has_the_whole_view_again_within_three_seconds(cluster: LocalCluster) -> None:
    decision, _ = cluster.generate("sim-a")
    state = cluster.await_state(lambda state: any(worker.report.loaded_models for worker in state.workers))
    before = {worker.report.node_id: tuple(worker.report.loaded_models) for worker in state.workers}
    assert before[decision.worker_id] == ("sim-a",)
    cluster.kill("coordinator")
    cluster.start_coordinator()
    # From the moment it listens: workers back off at most 2 s between attempts.
    state = cluster.await_live(3, deadline_s=3)
    after = {worker.report.node_id: tuple(worker.report.loaded_models) for worker in state.workers}
    assert after == before
    assert all(process.poll() is None for process in cluster.workers.values())


def test_workers_keep_serving_while_the_coordinator_is_away(cluster: LocalCluster) -> None:
    decision, _ = cluster.generate("sim-a")
    cluster.kill("coordinator")
    with cluster.worker(decision.worker_id) as stub:
        *_, last = stub.Generate(worker_pb2.GenerateRequest(model="sim-a", prompt="still there?", max_tokens=3), timeout=30)
    assert last.completion.usage.completion_tokens == 3


def test_with_every_worker_gone_the_refusal_says_so(cluster: LocalCluster) -> None:
    for node_id in list(cluster.workers):
        cluster.kill(node_id)
    cluster.await_live(0)
    with cluster.scheduler() as stub, pytest.raises(grpc.RpcError) as refused:
        stub.Schedule(scheduler_pb2.ScheduleRequest(model_required="sim-a"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "3" in str(refused.value.details())
