"""The README's commands do what it says: each one is run here, or named with the test that runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from local_cluster import clean_environment, free_port

from roost.client.local.ports import free_ports

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE) for line in block.splitlines() if line]
UP_GOSSIP = ".venv/bin/roost up --mode gossip --workers 5"
WITHOUT_COORDINATOR = [command for command in COMMANDS if "--coordinator 127.0.0.1:78" in command]
WITH_COORDINATOR = [command for command in COMMANDS if command.startswith(".venv/bin/roost") and "--coordinator" not in command]
WITH_COORDINATOR.remove(UP_GOSSIP)
# Run by other tests, or by whoever runs this one.
ELSEWHERE = {
    "docker compose up": "tests/containers",
    "docker compose --profile load up --detach": "tests/containers",
    "docker compose -f docker-compose.gossip.yml up": "tests/containers",
    "make test": "this run",
    "make check": "the same ruff, mypy and pytest calls as make lint and make test",
    "make bench": "test_the_benchmarks_print_their_tables",
}
Running: TypeAlias = tuple[subprocess.Popen[str], dict[str, str], list[str]]  # the process, the clients' environment, what it printed
FIRST_ANSWER_S = 300.0  # the first run prepares the model
needs_real_model = pytest.mark.skipif(
    shutil.which("make") is None or not (ROOT / ".venv").exists(), reason="needs make and this checkout's .venv"
)


def start_make_run(folder: Path) -> Running:
    """`make run` on free ports, up to the line that says how to call it again. Returns what it printed, too."""
    coordinator = free_port()
    flags = f"--coordinator-port {coordinator} --base-worker-port {free_ports(4)} --base-metrics-port {free_ports(4)} --log-dir {folder}"
    environment = {**clean_environment(), "ROOST_COORDINATOR": f"127.0.0.1:{coordinator}"}
    process = subprocess.Popen(
        ["make", "run", f"UP_ARGS={flags}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    printed: list[str] = []
    watchdog = threading.Timer(FIRST_ANSWER_S, process.kill)
    watchdog.start()
    for line in process.stdout:
        printed.append(line)
        if "Call it again" in line:
            break
    watchdog.cancel()
    threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would stop it
    return process, environment, printed


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    process, environment, printed = start_make_run(tmp_path_factory.mktemp("logs"))
    yield process, environment, printed
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=20)


@needs_real_model
@pytest.mark.timeout(900)
def test_make_run_shows_who_was_chosen_and_why_and_a_real_sentence(
    running: Running,
) -> None:
    process, environment, printed = running
    text = "".join(printed)
    assert process.poll() is None, text
    assert re.search(r"worker-[123]\s+COLD_START", text)
    assert "no live worker has gemma-3-270m" in text
    answer = roost(environment, "generate", "gemma-3-270m", "The capital of France is the city of", "--max-tokens", "8", "--json")
    generated = json.loads(answer)
    assert generated["cache"] == "hit"
    assert generated["text"].split()
    assert generated["text"].strip()[:20] in text  # greedy: the same text as on the screen


@needs_real_model
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", WITH_COORDINATOR)
def test_a_readme_command_succeeds(command: str, running: Running) -> None:
    succeeds(command, running[1])


def succeeds(command: str, environment: dict[str, str]) -> None:
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def first_sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The gRPC port of the first of five sidecars, that the README's command has started with their workers."""
    ports = {name: free_ports(6) for name in ("worker", "metrics", "gossip", "sidecar")}
    flags = " ".join(f"--base-{name}-port {port}" for name, port in ports.items())
    command = ["bash", "-c", f"exec {UP_GOSSIP} {flags} --log-dir {tmp_path_factory.mktemp('logs')}"]
    process = subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    watchdog = threading.Timer(FIRST_ANSWER_S, process.kill)
    watchdog.start()
    printed = [next(line for line in process.stdout if "Ready" in line or "roost:" in line)]
    watchdog.cancel()
    threading.Thread(target=process.stdout.read, daemon=True).start()
    assert "Ready" in printed[0]
    yield ports["sidecar"] + 1
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0


@needs_real_model
@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", WITHOUT_COORDINATOR)
def test_a_readme_command_succeeds_without_a_coordinator(command: str, first_sidecar: int) -> None:
    succeeds(re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{first_sidecar + int(found[1]) - 7846}", command), clean_environment())


def test_every_readme_command_of_ours_is_run_by_one_of_these() -> None:
    ours = {command for command in COMMANDS if command.startswith(".venv/bin/roost")}
    assert ours == {*WITH_COORDINATOR, *WITHOUT_COORDINATOR, UP_GOSSIP}
    assert len(WITHOUT_COORDINATOR) >= 2


@needs_real_model
@pytest.mark.timeout(300)
def test_the_readme_program_runs(running: Running, tmp_path: Path) -> None:
    _, environment, _ = running
    [program] = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    script = tmp_path / "program.py"
    script.write_text(program.replace("127.0.0.1:9000", environment["ROOST_COORDINATOR"]))
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_other_readme_command_is_known_to_be_run_elsewhere() -> None:
    others = [command for command in COMMANDS if not command.startswith(".venv/bin/roost")]
    assert set(others) - set(ELSEWHERE) == {"make run", "make help"}


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE))
    listing = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout
    assert {line.split()[1] for line in shown.splitlines()} == targets


@pytest.mark.timeout(300)
def test_the_benchmarks_print_their_tables() -> None:
    for script in ("bench/bench_decisions.py", "bench/bench_recording.py", "bench/bench_rpc.py", "bench/bench_gossip.py"):
        done = subprocess.run([sys.executable, script, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(rows) > 1


def test_ctrl_c_stops_everything_within_five_seconds_and_leaves_no_process(tmp_path: Path) -> None:
    coordinator = free_port()
    flags = ["--coordinator-port", str(coordinator), "--base-worker-port", str(free_ports(4)), "--base-metrics-port", str(free_ports(4))]
    process = subprocess.Popen(
        [sys.executable, "-m", "roost.client.cli", "up", "--workers", "2", "--log-dir", str(tmp_path), *flags],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Ready" in line:
            break
    members = children_of(process.pid)
    assert len(members) >= 3
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 0
    assert [pid for pid in members if Path(f"/proc/{pid}").exists()] == []


def children_of(pid: int) -> list[int]:
    """Every descendant of a process, by /proc."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
        if parent == pid:
            child = int(folder.name)
            found += [child, *children_of(child)]
    return found


def roost(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "roost.client.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
