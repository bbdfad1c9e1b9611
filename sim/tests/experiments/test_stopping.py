"""`roost experiment` is stopped in the middle: by the terminal, which tells its whole group, and by whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
ENDED_WITHIN_S = 15


@contextmanager
def experiment(*options: str, where: Path) -> Iterator[subprocess.Popen[str]]:
    """A long one, as a group of its own, which is killed at the end if anything of it is left."""
    line = [sys.executable, "-m", "roost.sim.experiments", "1", "--quick", "--seeds", "10", "--out", str(where), *options]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "TMPDIR": str(where)})
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_a_run(process: subprocess.Popen[str], where: Path, *, is_live: bool) -> None:
    """Until a simulated run has ended, or the processes of a live one have begun to write."""
    assert process.stderr is not None
    assert process.stderr.readline()
    end = time.monotonic() + ENDED_WITHIN_S
    while is_live and not list(where.glob("roost-experiment-*/*.log")):
        assert time.monotonic() < end, "no process has begun"


def rest_of(process: subprocess.Popen[str]) -> str:
    """What it still says. Its end comes when the last process that has its stderr has ended."""
    return process.communicate(timeout=ENDED_WITHIN_S)[1]


@pytest.mark.parametrize(
    ("number", "tell", "code"),
    [(signal.SIGINT, os.killpg, 130), (signal.SIGINT, os.kill, 130), (signal.SIGTERM, os.kill, 143)],
    ids=["ctrl-c", "sigint", "sigterm"],
)
@pytest.mark.parametrize("options", [("--jobs", "2"), ("--live",)], ids=["simulated", "live"])
def test_a_stopped_experiment_ends_at_once_with_all_its_processes(
    options: tuple[str, ...], number: signal.Signals, tell: Callable[[int, int], None], code: int, tmp_path: Path
) -> None:
    with experiment(*options, where=tmp_path) as process:
        wait_for_a_run(process, tmp_path, is_live="--live" in options)
        tell(process.pid, number)
        said = rest_of(process)
        assert process.returncode == code, said
        assert "Traceback" not in said
        assert not list(tmp_path.glob("roost-experiment-*"))
