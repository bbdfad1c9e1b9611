"""`python -m roost.coordinator` as a process: what it says, how it stops, how it refuses to start."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from roost.coordinator.settings import CoordinatorSettings
from roost.service.settings import BadSettings, parse_settings
from roost.v1 import coordinator_pb2, coordinator_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc, state_pb2

FREE = ("--port", "0", "--metrics-port", "0")
slow = pytest.mark.slow


def environment(**settings: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}, **settings}


@contextmanager
def started(*arguments: str, **settings: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port, once it serves."""
    command = [sys.executable, "-m", "roost.coordinator", *FREE, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(**settings)) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "coordinator_started" in line and (found := re.search(r"\bport=(\d+)", line)):
                    yield process, int(found[1])
                    break
            else:
                raise AssertionError(f"it ended with {process.wait(10)} before it served")
        finally:
            process.kill()


def refused(*arguments: str, **settings: str) -> str:
    """What a process that does not start says on stderr, after its exit code was checked to be 2."""
    command = [sys.executable, "-m", "roost.coordinator", *FREE, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(**settings), check=False)
    assert ended.returncode == 2, ended.stderr
    return ended.stderr


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order_while_a_worker_is_connected(number: signal.Signals) -> None:
    with started() as (process, port), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        report = state_pb2.WorkerLoadReport(node_id="worker-1", epoch=1, sequence=1)
        stream = coordinator_pb2_grpc.CoordinatorStub(channel).Connect(iter([coordinator_pb2.ConnectRequest(report=report)]), timeout=30)
        assert next(stream).welcome.dead_after_s == 10.0
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
        assert process.stderr is not None
        said = process.stderr.read()
        assert "coordinator_stopped" in said
        assert "Traceback" not in said


@slow
def test_it_serves_on_the_port_it_names_and_clients_target_lists_do_not_confuse_it() -> None:
    with (
        started("--policy", "round-robin", ROOST_COORDINATOR="10.0.0.1:9000,10.0.0.2:9000") as (_, port),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        state = scheduler_pb2_grpc.SchedulerStub(channel).GetClusterState(scheduler_pb2.GetClusterStateRequest(), timeout=10)
        assert state.policy == "round-robin"


@slow
def test_sighup_reads_the_catalogue_again_and_a_mistake_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"

    def write(*names: str) -> None:
        path.write_text("".join(f'[models.{name}]\nengine = "simulated"\nsource = "published"\nsize = "1GB"\n' for name in names))

    write("a")
    with started("--models", str(path)) as (process, port), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        watch = scheduler_pb2_grpc.SchedulerStub(channel).WatchClusterState(
            scheduler_pb2.WatchClusterStateRequest(interval_s=0.05), timeout=20
        )

        def known() -> list[str]:
            return [model.model.name for model in next(watch).state.models]

        assert known() == ["a"]
        write("a", "b")
        process.send_signal(signal.SIGHUP)
        assert known() == ["a", "b"]
        path.write_text("[models.a\n")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        assert any("catalogue_not_reloaded" in line and "line 1" in line for line in process.stderr)
        write("b")
        process.send_signal(signal.SIGHUP)
        assert known() == ["b"]
        assert process.poll() is None


@slow
def test_a_taken_port_is_one_clear_line() -> None:
    with started() as (_, port):
        said = refused("--port", str(port))
        assert str(port) in said
        assert "Traceback" not in said


@slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--policy", "best"), "weighted-score"),
        (("--dead-after", "0"), "dead_after_s"),
        (("--models", "no-such-file.toml"), "no-such-file.toml"),
    ],
)
def test_a_bad_setting_names_itself_and_the_fix(arguments: tuple[str, ...], said: str) -> None:
    told = refused(*arguments)
    assert said in told
    assert "Traceback" not in told


@slow
def test_a_bad_catalogue_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[models.sim-a]\nengine = "steam"\n')
    told = refused("--models", str(path))
    assert f"{path} line 2" in told
    assert "steam" in told


def test_the_target_list_of_clients_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("ROOST_"):
            monkeypatch.delenv(name)
    defaults = parse_settings(CoordinatorSettings, {})
    monkeypatch.setenv("ROOST_COORDINATOR", "10.0.0.1:9000")
    monkeypatch.setenv("ROOST_COORDINATOR_PORT", "9123")
    assert parse_settings(CoordinatorSettings, {}) == defaults.model_copy(update={"port": 9123})
    assert (defaults.host, defaults.port, defaults.metrics_port) == ("127.0.0.1", 9000, 9100)
    assert (defaults.policy, defaults.dead_after_s) == ("expected-wait", 10.0)


def test_an_unknown_policy_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(BadSettings, match=r"policy .*'best' is not one of expected-wait, weighted-score"):
        parse_settings(CoordinatorSettings, {"policy": "best"})
