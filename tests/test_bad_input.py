"""Whatever arrives, it gets its documented answer and everything else keeps running."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from local_cluster import LocalCluster

from roost.v1 import scheduler_pb2, worker_pb2

pytestmark = pytest.mark.slow

CORRUPT_MODELS = """
[models.sim-a]
engine = "simulated"
source = "published"
size = "100MB"
limits = { context_tokens = 2048 }
options = { time_scale = 0.02 }

[models.corrupt]
engine = "llamacpp"
source = "path:FOLDER/corrupt.gguf"
size = "1MB"
limits = { context_tokens = 128 }

[models.missing]
engine = "llamacpp"
source = "path:FOLDER/no-such-file.gguf"
size = "1MB"
limits = { context_tokens = 128 }
"""


@pytest.fixture
def cluster(make_cluster: Callable[..., LocalCluster], tmp_path: Path) -> LocalCluster:
    (tmp_path / "corrupt.gguf").write_bytes(b"GGUF" + bytes(range(256)) * 64)
    models = tmp_path / "models.toml"
    models.write_text(CORRUPT_MODELS.replace("FOLDER", str(tmp_path)))
    # /dev/full takes the open and fails every write: a full disk on the log path.
    cluster = make_cluster(models_file=models, worker_args=("--log-file", "/dev/full"), coordinator_args=("--log-file", "/dev/full"))
    cluster.start_coordinator()
    cluster.start_worker("worker-1")
    cluster.await_live(1)
    return cluster


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, str]:
    """Status code, ErrorInfo reason and message of a refused call."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    reason = ""
    status = rpc_status.from_call(cast("grpc.Call", caught.value))
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reason = info.reason
    return caught.value.code(), reason, caught.value.details() or ""


def test_every_bad_request_gets_its_documented_answer_and_the_cluster_lives_on(cluster: LocalCluster) -> None:
    code = grpc.StatusCode
    with cluster.scheduler() as scheduler, cluster.worker("worker-1") as worker:

        def schedule(timeout: float = 5, **fields: object) -> tuple[grpc.StatusCode, str, str]:
            return refusal(lambda: scheduler.Schedule(scheduler_pb2.ScheduleRequest(**fields), timeout=timeout))  # type: ignore[arg-type]

        def generate(**fields: object) -> tuple[grpc.StatusCode, str, str]:
            request = worker_pb2.GenerateRequest(**{"model": "sim-a", "prompt": "hello", **fields})  # type: ignore[arg-type]
            return refusal(lambda: list(worker.Generate(request, timeout=30)))

        answers = {
            "empty model": schedule(model_required=""),
            "priority 11": schedule(model_required="sim-a", priority=11),
            "unknown model": schedule(model_required="sim-b"),
            "negative tokens": schedule(model_required="sim-a", max_tokens=-1),
            "expired deadline": schedule(model_required="sim-a", timeout=-1),
            "worker: empty model": generate(model=""),
            "worker: unknown model": generate(model="sim-z"),
            "worker: priority 11": generate(priority=11),
            "worker: negative tokens": generate(max_tokens=-5),
            "worker: empty prompt": generate(prompt=""),
            "worker: 20 MiB prompt": generate(prompt="x" * (20 << 20)),
            "worker: 9 MiB prompt": generate(prompt="x" * (9 << 20)),
            "worker: corrupt file": generate(model="corrupt"),
            "worker: missing file": generate(model="missing"),
        }
    assert {name: (status, reason) for name, (status, reason, _) in answers.items()} == {
        "empty model": (code.INVALID_ARGUMENT, "INVALID_FIELD"),
        "priority 11": (code.INVALID_ARGUMENT, "INVALID_FIELD"),
        "unknown model": (code.NOT_FOUND, "UNKNOWN_MODEL"),
        "negative tokens": (code.INVALID_ARGUMENT, "INVALID_FIELD"),
        "expired deadline": (code.DEADLINE_EXCEEDED, ""),
        "worker: empty model": (code.INVALID_ARGUMENT, "INVALID_FIELD"),
        "worker: unknown model": (code.NOT_FOUND, "UNKNOWN_MODEL"),
        "worker: priority 11": (code.INVALID_ARGUMENT, "INVALID_FIELD"),
        "worker: negative tokens": (code.INVALID_ARGUMENT, "INVALID_FIELD"),
        "worker: empty prompt": (code.INVALID_ARGUMENT, "INVALID_FIELD"),
        "worker: 20 MiB prompt": (code.RESOURCE_EXHAUSTED, ""),
        "worker: 9 MiB prompt": (code.INVALID_ARGUMENT, "INVALID_FIELD"),
        "worker: corrupt file": (code.FAILED_PRECONDITION, "MODEL_LOAD_FAILED"),
        "worker: missing file": (code.FAILED_PRECONDITION, "MODEL_LOAD_FAILED"),
    }
    assert "sim-a" in answers["unknown model"][2]
    assert "priority" in answers["priority 11"][2]
    assert "no-such-file.gguf" in answers["worker: missing file"][2]
    assert cluster.generate("sim-a")[1].usage.completion_tokens > 0


def test_garbage_on_a_port_hurts_nobody(cluster: LocalCluster) -> None:
    for port in (cluster.port, cluster.worker_ports["worker-1"]):
        for garbage in (b"\x00" * 4096, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 64):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(garbage)
    assert cluster.generate("sim-a")[1].usage.completion_tokens > 0


def test_the_logs_say_that_the_disk_is_full_and_the_processes_run_on(cluster: LocalCluster) -> None:
    cluster.generate("sim-a")
    assert cluster.coordinator is not None
    assert cluster.coordinator.poll() is None
    assert "No space left" in cluster.log("worker-1") + cluster.log("coordinator")
