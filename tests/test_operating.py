"""What an operator starts, an operator can stop: on real processes, through the coordinator."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from local_cluster import LocalCluster, State, clean_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MODELS = """
[models.small]
engine = "simulated"
source = "published"
size = "100MB"
options = { tier = "nvme-pcie4", profile = "small-l40s" }

[models.slow-to-write]
engine = "simulated"
source = "published"
size = "100MB"
limits = { context_tokens = 4096, max_tokens = 4000 }
options = { tier = "nvme-pcie4", profile = "small-l40s", time_scale = 20.0 }

[models.huge]
engine = "simulated"
source = "published"
size = "400GB"
options = { tier = "nvme-pcie4", profile = "small-l40s" }
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder = tmp_path_factory.mktemp("operating")
    models = folder / "models.toml"
    models.write_text(MODELS)
    made = LocalCluster(folder, models, worker_args=("--memory", "500GB"))
    try:
        made.start_coordinator()
        made.start_worker("worker-1")
        made.await_live(1)
        yield made
    finally:
        made.stop()


def command(cluster: LocalCluster, *words: str) -> list[str]:
    return [sys.executable, "-m", "roost.client.cli", *words, "--coordinator", cluster.address]


def roost(cluster: LocalCluster, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(cluster, *words), env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)


def begin(cluster: LocalCluster, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(cluster, *words),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def holds(state: State) -> dict[str, tuple[bool, int]]:
    """Each model of the worker: whether it is pinned, and its requests."""
    return {model.name: (model.pinned, model.in_flight) for worker in state.workers for model in worker.report.models}


def test_ctrl_c_stops_the_load_that_it_asked_for(cluster: LocalCluster) -> None:
    loading = begin(cluster, "load", "huge")
    cluster.await_state(lambda state: "huge" in holds(state))
    loading.send_signal(signal.SIGINT)
    assert loading.wait(10) == 130
    cluster.await_state(lambda state: "huge" not in holds(state), deadline_s=5)
    assert cluster.state().workers[0].report.memory_used_bytes == 0


def test_a_load_that_is_not_ready_in_time_is_stopped_too(cluster: LocalCluster) -> None:
    done = roost(cluster, "load", "huge", "--timeout", "0.5")
    assert done.returncode != 0
    cluster.await_state(lambda state: "huge" not in holds(state), deadline_s=5)


def test_unpinning_keeps_the_model_and_lets_it_go(cluster: LocalCluster) -> None:
    assert roost(cluster, "load", "small", "--pin").returncode == 0
    cluster.await_state(lambda state: holds(state).get("small") == (True, 0))
    assert "unpinned" in roost(cluster, "unpin", "small").stdout
    cluster.await_state(lambda state: holds(state).get("small") == (False, 0))
    assert "was not pinned" in roost(cluster, "unpin", "small").stdout


def test_an_unload_when_free_waits_for_the_request_that_runs(cluster: LocalCluster) -> None:
    assert roost(cluster, "load", "slow-to-write").returncode == 0
    writing = begin(cluster, "generate", "slow-to-write", "Once", "--max-tokens", "2000")
    cluster.await_state(lambda state: holds(state).get("slow-to-write", (False, 0))[1] == 1)
    assert "in use" in roost(cluster, "unload", "slow-to-write").stderr
    assert roost(cluster, "unload", "slow-to-write", "--when-free", "--timeout", "0.5").returncode != 0
    unloading = begin(cluster, "unload", "slow-to-write", "--when-free")
    with pytest.raises(subprocess.TimeoutExpired):
        unloading.wait(1.5)
    writing.send_signal(signal.SIGINT)
    writing.wait(10)
    out, _ = unloading.communicate(timeout=10)
    assert (unloading.returncode, "put out" in out) == (0, True)
    cluster.await_state(lambda state: "slow-to-write" not in holds(state), deadline_s=5)
