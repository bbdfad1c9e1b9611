"""Each test runs a small program of its own: signals and exit codes belong to whole processes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio
from roost.service import logs
from roost.service.process import freeze_after_start, reloading, run
from roost.service.startup import PortTaken

async def broken():
    raise KeyError("why")

async def main(signals):
    stop = signals.stop
    freeze_after_start()
    print("started", flush=True)
    {body}

logs.configure("test", verbose=False, log_format="json", log_file=None)
raise SystemExit(run(main))
"""


def start(body: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_main_to_stop_and_the_exit_code_is_0(number: signal.Signals) -> None:
    process = start("await stop.wait(); print('drained')")
    process.send_signal(number)
    code, out, err = outcome(process)
    assert (code, out) == (0, "drained\n")
    assert number.name in err


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_exits_at_once(number: signal.Signals, expected: int) -> None:
    process = start("await stop.wait(); print('draining', flush=True); await asyncio.Event().wait()")
    process.send_signal(number)
    assert process.stdout is not None
    assert process.stdout.readline() == "draining\n"
    process.send_signal(number)
    assert outcome(process)[0] == expected


def test_a_hangup_ends_nothing_and_is_told_each_time() -> None:
    body = """
    heard = []
    async def reload():
        heard.append(1)
        print("reloaded", flush=True)
    async with reloading(signals.hangup, reload):
        await stop.wait()
    print(len(heard))"""
    process = start(body)
    assert process.stdout is not None
    for _ in range(2):
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "reloaded\n"
    process.send_signal(signal.SIGTERM)
    assert outcome(process)[:2] == (0, "2\n")


def test_a_hangup_that_nobody_listens_to_ends_nothing() -> None:
    process = start("await signals.hangup.wait(); print('alive', flush=True)")
    process.send_signal(signal.SIGHUP)
    assert outcome(process)[:2] == (0, "alive\n")


def test_a_bug_is_logged_with_its_traceback_and_exits_1() -> None:
    code, _, err = outcome(start("raise KeyError('why')"))
    assert code == 1
    assert "process_failed" in err
    assert "KeyError: 'why'" in err


def test_a_bug_in_a_task_ends_the_process() -> None:
    body = "async with asyncio.TaskGroup() as tasks: tasks.create_task(broken()); await stop.wait()"
    code, _, err = outcome(start(body))
    assert code == 1
    assert "KeyError: 'why'" in err


def test_what_cannot_start_says_so_in_one_line_and_exits_2() -> None:
    code, _, err = outcome(start("raise ExceptionGroup('tasks', [PortTaken('127.0.0.1:9000', 'another process listens there')])"))
    assert (code, err) == (2, "cannot listen on 127.0.0.1:9000: another process listens there\n")
