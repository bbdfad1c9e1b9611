"""`python -m roost.worker` as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from engine_subjects import needs_cyllama
from local_cluster import await_port, clean_environment, free_port
from tiny_gguf import write_tiny_gguf

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
            kinds = [answer.WhichOneof("event") for answer in worker_pb2_grpc.WorkerStub(channel).Generate(request, timeout=10)]
            assert kinds == ["accepted", "started", "token", "token", "completion"]
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


@needs_cyllama
def test_a_frozen_engine_process_ends_what_ran_on_it_and_its_model_is_loaded_again(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    tiny = write_tiny_gguf(tmp_path / "tiny.gguf")
    models.write_text(f'[models.tiny]\nengine = "llamacpp"\nsource = "path:{tiny}"\nlimits = {{ context_tokens = 256 }}\n')
    port = free_port()
    command = [sys.executable, "-m", "roost.worker", "--port", str(port), "--metrics-port", "0", "--coordinator-port", "1"]
    command += ["--models", str(models), "--models-dir", str(tmp_path), "--engine-silence", "1"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=clean_environment()) as process:
        await_port(port, process)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = worker_pb2_grpc.WorkerStub(channel)
            request = worker_pb2.GenerateRequest(model="tiny", prompt="the cat", max_tokens=8)
            whole = [answer.token for answer in stub.Generate(request, timeout=30) if answer.WhichOneof("event") == "token"]
            (child,) = engine_processes(process.pid)
            os.kill(child, signal.SIGSTOP)
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.Generate(request, timeout=30))
            assert caught.value.code() is grpc.StatusCode.ABORTED
            assert "did nothing for 1 s" in (caught.value.details() or "")
            again = [answer.token for answer in stub.Generate(request, timeout=30) if answer.WhichOneof("event") == "token"]
            assert again == whole
            assert engine_processes(process.pid) != [child]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def engine_processes(worker: int) -> list[int]:
    """The worker's children that hold a model."""
    children = [int(pid) for path in Path(f"/proc/{worker}/task").glob("*/children") for pid in path.read_text().split()]
    return [pid for pid in children if b"llamacpp_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


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
