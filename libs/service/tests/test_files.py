"""Modes that do not depend on who started the process."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.service.files import FOLDER, PRIVATE, PRIVATE_FOLDER, SHARED, make_folder, open_file, write_file
from roost.service.log_sink import LogSink

UMASKS = (0o000, 0o022, 0o027, 0o077, 0o777)


@pytest.fixture(params=UMASKS, ids=lambda mask: f"{mask:03o}")
def masked(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("masked")
def test_a_file_has_the_mode_it_is_meant_to_have(tmp_path: Path) -> None:
    for mode in (PRIVATE, SHARED):
        path = tmp_path / f"{mode:o}"
        os.close(open_file(path, os.O_WRONLY, mode))
        assert mode_of(path) == mode
        write_file(path, "again", mode)
        assert (path.read_text(), mode_of(path)) == ("again", mode)


@pytest.mark.usefixtures("masked")
def test_a_folder_and_its_parents_can_be_used(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", PRIVATE_FOLDER)
    assert (mode_of(tmp_path / "a"), mode_of(tmp_path / "a" / "b")) == (FOLDER, PRIVATE_FOLDER)
    make_folder(tmp_path / "a" / "b")  # it is there
    assert mode_of(tmp_path / "a" / "b") == PRIVATE_FOLDER


@pytest.mark.usefixtures("masked")
def test_a_log_file_is_its_operators_and_their_groups(tmp_path: Path) -> None:
    sink = LogSink(tmp_path / "roost.log")
    sink.write("a line")
    sink.flush(5.0)
    assert mode_of(tmp_path / "roost.log") == PRIVATE


def test_what_is_there_keeps_the_mode_that_somebody_gave_it(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.touch()
    path.chmod(0o600)
    os.close(open_file(path, os.O_WRONLY, SHARED))
    assert mode_of(path) == 0o600


def test_a_file_where_a_folder_should_be_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(OSError, match="taken"):
        make_folder(tmp_path / "taken")
