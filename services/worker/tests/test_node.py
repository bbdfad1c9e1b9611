"""WorkerNode from plain synchronous code, with a coordinator in another thread's loop."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from tiny_coordinator import TinyCoordinator, listening

from roost.cluster.errors import InvalidField, ModelTooLarge, RoostError, UnknownModel, WorkerUnreachable
from roost.cluster.worker_state import CacheResult
from roost.service.errors import RemoteError
from roost.v1 import worker_pb2, worker_pb2_grpc
from roost.worker import Action, NodeCannotStart, WorkerNode

MODELS = """
[models.a]
engine = "simulated"
source = "published"
size = "40MB"
options = { time_scale = 0.01 }

[models.big]
engine = "simulated"
source = "published"
size = "101MB"
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(MODELS)
    return path


@contextmanager
def coordinator() -> Iterator[tuple[TinyCoordinator, int]]:
    """The tiny coordinator, in a loop and a thread of its own."""
    made: list[tuple[TinyCoordinator, int]] = []
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def main() -> None:
        async with listening() as pair:
            made.append(pair)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    assert ready.wait(10)
    try:
        yield made[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def test_the_seeds_five_arguments_and_four_verbs_work(models: Path) -> None:
    with coordinator() as (_, port):
        node = WorkerNode("worker-1", "127.0.0.1", 0, "127.0.0.1", port, models=models, memory="100MB")
        node.start()
        try:
            assert node.load_model("a").cache_result is CacheResult.COLD_START
            result = node.request_schedule("request-1", "a")
            assert (result.worker_id, result.action, result.estimated_wait_time) == ("worker-1", "COLD_START", 0.25)
            assert result.action is Action.COLD_START
            assert f"{result.action}" == "COLD_START"
            assert (result.request_id, result.reason) == ("request-1", "worker-1 will load it")
            assert node.unload_model("a")
        finally:
            node.stop()


def test_it_starts_without_a_coordinator_serves_and_starts_again(models: Path) -> None:
    node = WorkerNode("worker-1", coordinator_port=1, models=models, memory="100MB")
    for _ in range(2):
        with node, grpc.insecure_channel(node.address) as channel:
            request = worker_pb2.GenerateRequest(model="a", prompt="hello", max_tokens=2)
            events = list(worker_pb2_grpc.WorkerStub(channel).Generate(request, timeout=10))
            assert [event.WhichOneof("event") for event in events] == ["accepted", "started", "token", "token", "completion"]
            with pytest.raises(RemoteError, match="UNAVAILABLE"):
                node.request_schedule("request-1", "a", timeout_s=2)
    node.stop()


def test_two_nodes_in_one_program_do_not_mind_each_other(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with WorkerNode("worker-1", coordinator_port=1, models=models) as one, WorkerNode("worker-2", coordinator_port=1, models=models) as two:
        assert one.port != two.port
        for node in (one, two):
            node.load_model("a")
            assert node.unload_model("a")
    assert "Traceback" not in capfd.readouterr().err


def test_threads_that_start_and_stop_at_once_make_one_worker_and_leave_none(models: Path) -> None:
    node = WorkerNode("shared-node", coordinator_port=1, models=models)
    together = threading.Barrier(8)

    def in_step(act: Callable[[], object]) -> None:
        together.wait(10)
        act()

    def living() -> int:
        return sum(thread.name == "worker shared-node" for thread in threading.enumerate())

    for act, left in ((node.start, 1), (node.stop, 0)):
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(in_step, act) for _ in range(8)]:
                done.result(30)
        assert living() == left


def test_a_taken_port_is_a_clear_error(models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = WorkerNode("worker-1", port=taken.getsockname()[1], models=models)
        assert issubclass(NodeCannotStart, RoostError)
        with pytest.raises(NodeCannotStart, match="another process listens there"):
            node.start()
        with pytest.raises(WorkerUnreachable):
            node.load_model("a")


def test_errors_are_roosts_own(models: Path) -> None:
    with coordinator() as (_, port), WorkerNode("worker-1", coordinator_port=port, models=models, memory="100MB") as node:
        with pytest.raises(UnknownModel, match="did you mean"):
            node.load_model("bi")
        with pytest.raises(ModelTooLarge):
            node.load_model("big")
        with pytest.raises(InvalidField, match="priority"):
            node.request_schedule("r", "a", priority=11)
        with pytest.raises(RoostError, match="NOT_FOUND"):
            node.request_schedule("r", "nothing")


def test_calling_a_node_that_is_not_started_says_so() -> None:
    node = WorkerNode("worker-1")
    with pytest.raises(WorkerUnreachable, match=r"call start\(\) first"):
        node.load_model("a")
    node.stop()


def test_bad_settings_are_refused_when_the_node_is_made() -> None:
    with pytest.raises(NodeCannotStart, match="slots"):
        WorkerNode("worker-1", slots=0)
    with pytest.raises(NodeCannotStart, match="nonsense"):
        WorkerNode("worker-1", nonsense=1)


def test_importing_the_package_is_light() -> None:
    code = "import sys, roost.worker; print(sorted({'grpc', 'pydantic', 'httpx', 'roost.worker.node'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
