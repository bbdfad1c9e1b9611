"""Where `roost up` writes when nobody says where."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SHOW = """
import os
from roost.client.cli.cluster_life import make_log_dir
os.umask(0)
print(make_log_dir(None), end="")
"""


def log_dir(**environment: str) -> Path:
    """As a process makes it that has this environment, and no umask."""
    told = {key: value for key, value in os.environ.items() if key != "TMPDIR"} | environment
    done = subprocess.run([sys.executable, "-c", SHOW], env=told, capture_output=True, text=True, timeout=60, check=True)
    return Path(done.stdout)


def test_the_folder_is_in_tmpdir_and_nobody_elses(tmp_path: Path) -> None:
    made = log_dir(TMPDIR=str(tmp_path))
    assert made.parent == tmp_path
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize("tmpdir", ["", "/no/such/folder", "/proc", "/" + "long/" * 900, "/dev/null"])
def test_a_tmpdir_that_cannot_be_used_is_passed_over(tmpdir: str) -> None:
    made = log_dir(TMPDIR=tmpdir)
    try:
        assert made.is_dir()
        assert made.parent == Path(tempfile.gettempdir()).resolve()
    finally:
        made.rmdir()
