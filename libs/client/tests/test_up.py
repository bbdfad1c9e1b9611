"""`roost up` with the real coordinator and real workers, each a process: it starts, answers, reports, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from client_peers import Roost

pytestmark = pytest.mark.slow

BOUND_S = 30.0


@pytest.fixture(autouse=True)
def logs_are_the_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters that are not told where to log do so in the test's own folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def free_base() -> int:
    """A port of which the next twenty are free as well, as far as one look can tell."""
    for base in range(21000 + os.getpid() % 500 * 20, 60000, 20):
        try:
            for port in range(base, base + 20):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


def ports(base: int) -> list[str]:
    return ["--coordinator-port", str(base), "--base-worker-port", str(base), "--base-metrics-port", str(base + 10)]


def processes_of(base: int, words: str = "") -> list[int]:
    """Coordinators and workers with a port of this cluster, and with `words` in their command line."""
    wanted = re.compile(rf"roost\.(coordinator|worker).*--port (?:{'|'.join(str(base + offset) for offset in range(10))})\b")
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if wanted.search(line) and words in line:
            found.append(int(folder.name))
    return found


async def none_left(base: int) -> None:
    async with asyncio.timeout(BOUND_S):
        while processes_of(base):  # noqa: ASYNC110 - processes that are not ours to wait for tell nobody when they end
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(base: int, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A `roost up` whose stdout is being read; ended by force if the test has not."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roost.client.cli", "up", *ports(base), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        await none_left(base)


async def line_with(process: asyncio.subprocess.Process, text: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(BOUND_S):
        while line := (await process.stdout.readline()).decode():
            if text in line:
                return line
    raise AssertionError(f"no line with {text!r}")


async def test_a_cluster_starts_answers_and_sums_up(roost: Roost, tmp_path: Path) -> None:
    base = free_base()
    done = await roost(
        *("up", "--workers", "2", "--duration", "1.5", *ports(base), "--log-dir", str(tmp_path / "logs"), "--memory", "20GB"),
        *("--record", str(tmp_path / "kept"), "--model", "opt-1.3b", "--prompt", "Hello", "--max-tokens", "4", "--json"),
    )
    assert done.code == 0, done.err
    view = json.loads(done.out)
    assert (view["state"]["total_requests"], view["state"]["cold_starts"], view["ended_early"]) == (1, 1, [])
    assert [worker["node_id"] for worker in view["state"]["workers"]] == ["worker-1", "worker-2"]
    assert len(view["first_request"]["tokens"]) == 4
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["coordinator.log", "worker-1.log", "worker-2.log"]
    assert "COLD_START" in done.err
    assert not processes_of(base)
    replayed = await roost("replay", str(tmp_path / "kept" / "coordinator.jsonl"))
    assert (replayed.code, "1 of 1 decisions identical" in replayed.out) == (0, True), replayed


async def test_workers_are_called_by_the_advertised_name_and_the_first_request_is_short(roost: Roost) -> None:
    base = free_base()
    done = await roost(
        *("up", "--workers", "1", "--duration", "0.1", *ports(base), "--memory", "20GB", "--host", "0.0.0.0", "--advertise", "localhost"),
        *("--model", "opt-1.3b", "--json"),
    )
    assert done.code == 0, done.err
    view = json.loads(done.out)
    assert [worker["address"] for worker in view["state"]["workers"]] == [f"localhost:{base + 1}"]
    assert f"Other machines call it at localhost:{base};" in done.err
    assert len(view["first_request"]["tokens"]) == 32


async def test_ctrl_c_stops_everything_within_five_seconds() -> None:
    base = free_base()
    async with running(base, "--workers", "2") as process:
        await line_with(process, "Ready: 2 of 2")
        assert len(processes_of(base)) == 3
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), BOUND_S)
        assert time.monotonic() - started < 5
        assert (process.returncode, err) == (0, b"")
        assert b"Stopped." in out
        assert not processes_of(base)


async def test_a_cluster_that_is_frozen_altogether_is_stopped_with_time_to_spare() -> None:
    base = free_base()
    async with running(base, "--workers", "2") as process:
        await line_with(process, "Ready: 2 of 2")
        for frozen in processes_of(base):
            os.kill(frozen, signal.SIGSTOP)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), BOUND_S)
        assert time.monotonic() - started < 4.5
        assert process.returncode == 0
        assert not processes_of(base)


async def test_a_worker_that_is_stopped_in_order_vanishes_from_the_state(roost: Roost, tmp_path: Path) -> None:
    base = free_base()
    async with running(base, "--workers", "2", "--log-dir", str(tmp_path / "logs")) as process:
        await line_with(process, "Ready: 2 of 2")
        (leaving,) = processes_of(base, "--node-id worker-1")
        os.kill(leaving, signal.SIGTERM)
        await line_with(process, "worker-1 ended with exit status 0")
        done = await roost("state", "--json", "--coordinator", f"127.0.0.1:{base}")
        assert [worker["node_id"] for worker in json.loads(done.out)["workers"]] == ["worker-2"]
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), BOUND_S)
    told = (tmp_path / "logs" / "coordinator.log").read_text()
    assert "worker_left" in told
    assert "worker_suspected" not in told


async def test_nothing_is_left_when_the_command_itself_is_killed() -> None:
    base = free_base()
    async with running(base, "--workers", "1") as process:
        await line_with(process, "Ready: 1 of 1")
        process.kill()
        await asyncio.wait_for(none_left(base), 6)


async def test_a_taken_port_is_named_before_anything_starts(roost: Roost) -> None:
    base = free_base()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + 2))
        taken.listen()
        done = await roost("up", "--workers", "2", *ports(base))
    assert done.code == 1
    assert f"worker-2 cannot listen on 127.0.0.1:{base + 2}: the port is taken; choose another with --base-worker-port" in done.err
    assert "Traceback" not in done.err
    assert not processes_of(base)


async def test_a_process_that_dies_at_its_start_is_named_with_the_end_of_its_log(roost: Roost) -> None:
    base = free_base()
    done = await roost("up", "--workers", "1", *ports(base), "--policy", "no-such-policy")
    assert done.code == 1
    assert "coordinator ended with exit status 2 while the cluster was starting" in done.err
    assert "  | " in done.err
    assert "no-such-policy" in done.err
    assert "Traceback" not in done.err
    assert not processes_of(base)


async def test_a_worker_that_dies_later_is_reported_and_the_others_go_on(roost: Roost) -> None:
    base = free_base()
    async with running(base, "--workers", "2") as process:
        await line_with(process, "Ready: 2 of 2")
        (victim,) = processes_of(base, "--node-id worker-1")
        os.kill(victim, signal.SIGKILL)
        assert "worker-1 was killed by signal 9; it is not started again" in await line_with(process, "worker-1 was killed")
        done = await roost("schedule", "opt-1.3b", "--json", "--coordinator", f"127.0.0.1:{base}")
        assert json.loads(done.out)["worker_id"] == "worker-2"
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), BOUND_S)
        assert process.returncode == 0


async def test_a_first_request_that_fails_ends_the_cluster_with_its_exit_code(roost: Roost) -> None:
    base = free_base()
    done = await roost("up", "--workers", "1", *ports(base), "--model", "no-such-model")
    assert done.code == 4
    assert "[UNKNOWN_MODEL]" in done.err
    assert not processes_of(base)


async def test_a_second_ctrl_c_kills_at_once() -> None:
    base = free_base()
    async with running(base, "--workers", "1") as process:
        await line_with(process, "Ready: 1 of 1")
        (worker,) = processes_of(base, "roost.worker")
        os.kill(worker, signal.SIGSTOP)  # a worker that does not end by itself
        process.send_signal(signal.SIGINT)
        await line_with(process, "Stopping")
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), BOUND_S)
        assert time.monotonic() - started < 2
        assert process.returncode == 130


async def test_a_service_verb_hands_everything_on(roost: Roost) -> None:
    shown, refused = await asyncio.gather(roost("worker", "--help"), roost("coordinator", "--port", "x"))
    assert (shown.code, "--node-id" in shown.out) == (0, True)
    assert (refused.code, "port" in refused.err) == (2, True)
