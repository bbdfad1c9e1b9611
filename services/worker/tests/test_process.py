"""`python -m roost.worker` as a process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from local_cluster import await_port, clean_environment, free_port

from roost.v1 import worker_pb2, worker_pb2_grpc

pytestmark = pytest.mark.slow

MODELS = '[models.a]\nengine = "simulated"\nsource = "published"\nsize = "40MB"\noptions = { time_scale = 0.01 }\n'


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "roost.worker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=clean_environment())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(MODELS)
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_serves_until_it_is_asked_to_stop(models: Path, tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    command = [sys.executable, "-m", "roost.worker", "--node-id", "w", "--port", str(port), "--metrics-port", "0"]
    command += ["--models", str(models), "--coordinator-port", "1"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment()) as process:
        await_port(port, process)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            request = worker_pb2.GenerateRequest(model="a", prompt="hello", max_tokens=2)
            assert len(list(worker_pb2_grpc.WorkerStub(channel).Generate(request, timeout=10))) == 4
        process.send_signal(number)
        assert process.wait(10) == 0
    said = (tmp_path / "log").read_text()
    assert "worker_started" in said
    assert "worker_stopped" in said
    assert "Traceback" not in said


def test_a_hangup_reads_the_catalogue_again(models: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "roost.worker", "--node-id", "w", "--port", str(port), "--metrics-port", "0"]
    command += ["--models", str(models), "--coordinator-port", "1"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment()) as process:
        await_port(port, process)
        models.write_text(MODELS + MODELS.replace("models.a", "models.added"))
        process.send_signal(signal.SIGHUP)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = worker_pb2_grpc.WorkerStub(channel)
            deadline = time.monotonic() + 10
            while (known := [model.name for model in stub.ListModels(worker_pb2.ListModelsRequest()).catalogue]) != ["a", "added"]:
                assert time.monotonic() < deadline, known
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert "catalogue_reloaded" in (tmp_path / "log").read_text()


def test_a_taken_port_ends_with_one_line_and_two(models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--port", str(taken.getsockname()[1]), "--metrics-port", "0", "--models", str(models))
    assert done.returncode == 2
    assert "another process listens there" in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_settings_end_with_a_line_that_names_them(models: Path) -> None:
    done = run("--memory", "lots", "--models", str(models))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--memory" in done.stderr


def test_a_bad_catalogue_ends_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[models.a]\nengine = "steam"\n')
    done = run("--port", "0", "--metrics-port", "0", "--models", str(path))
    assert done.returncode == 2
    assert "models.toml line 2" in done.stderr
    missing = run("--port", "0", "--metrics-port", "0", "--models", str(tmp_path / "none.toml"))
    assert missing.returncode == 2
    assert "none.toml cannot be read" in missing.stderr


def test_preparing_says_what_it_did_or_why_not(models: Path, tmp_path: Path) -> None:
    nothing = run("prepare", "a", "--models", str(models), "--models-dir", str(tmp_path))
    assert (nothing.returncode, nothing.stdout) == (0, "a: nothing to prepare for the simulated engine\n")
    unknown = run("prepare", "b", "--models", str(models), "--models-dir", str(tmp_path))
    assert unknown.returncode == 1
    assert "no catalogue knows" in unknown.stderr
