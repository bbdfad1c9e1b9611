"""Large files are hashed once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from roost.worker.stamps import HashingCancelled, hash_file, noted_sha256


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.gguf"
    path.write_bytes(b"GGUF" * 100)
    return path


def never() -> bool:
    return False


def at_once() -> bool:
    return True


def test_a_file_that_was_hashed_is_not_read_again(weights: Path, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"GGUF" * 100).hexdigest()
    assert noted_sha256(weights, tmp_path / "notes", never) == sha256
    assert noted_sha256(weights, tmp_path / "notes", at_once) == sha256


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_has_changed_is_hashed_again(weights: Path, tmp_path: Path, change: str) -> None:
    before = noted_sha256(weights, tmp_path, never)
    if change == "size":
        weights.write_bytes(b"GGUF" * 101)
    else:
        weights.write_bytes(b"GGML" * 100)
        os.utime(weights, ns=(1, 1))
    assert noted_sha256(weights, tmp_path, never) != before


@pytest.mark.parametrize("written", ["", "[]", "{}", '{"sha256": 7}', "\x00"])
def test_a_broken_note_costs_a_hash(weights: Path, tmp_path: Path, written: str) -> None:
    sha256 = noted_sha256(weights, tmp_path, never)
    (note,) = tmp_path.glob("*.sha256")
    note.write_text(written)
    assert noted_sha256(weights, tmp_path, never) == sha256


def test_a_folder_that_cannot_be_written_costs_a_hash_and_not_the_model(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert noted_sha256(weights, tmp_path / "file", never) == hash_file(weights)


def test_hashing_can_be_given_up(weights: Path) -> None:
    with pytest.raises(HashingCancelled):
        hash_file(weights, at_once)
