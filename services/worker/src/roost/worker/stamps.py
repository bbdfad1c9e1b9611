"""What is remembered of large files beside them, so that each is hashed once: a stamp with the size and time that the digest is of."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from roost.service.files import SHARED, make_folder, write_file

BLOCK_BYTES: Final = 1024 * 1024


class HashingCancelled(Exception):
    """Whoever wanted the digest does not want it any more."""


def short_digest(of: bytes) -> str:
    """Enough to tell names apart."""
    return hashlib.sha256(of).hexdigest()[:12]


def hash_file(path: Path, is_cancelled: Callable[[], bool] = lambda: False) -> str:
    """The file's sha256 in hexadecimal. Raises OSError, HashingCancelled."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            if is_cancelled():
                raise HashingCancelled
            digest.update(block)
    return digest.hexdigest()


def noted_sha256(path: Path, notes_dir: Path, is_cancelled: Callable[[], bool] = lambda: False) -> str:
    """The file's digest, from a note in `notes_dir` where there is one of the file as it is. Raises OSError, HashingCancelled."""
    note = notes_dir / f"{path.name}-{short_digest(os.fsencode(path.absolute()))}.sha256"
    known = _noted(path, note)
    if known:
        return known
    sha256 = hash_file(path, is_cancelled)
    with contextlib.suppress(OSError):  # a folder that cannot be written costs a hash at each load, not the model
        make_folder(notes_dir)
        write_stamp(path, note, sha256)
    return sha256


def is_stamped(path: Path, stamp: Path, sha256: str) -> bool:
    """Whether the file is the one that was checked against `sha256`, by size and time."""
    try:
        return bool(json.loads(stamp.read_text("utf-8")) == _stamped(path, sha256))
    except (OSError, ValueError):
        return False


def write_stamp(path: Path, stamp: Path, sha256: str) -> None:
    """Says that the file as it is was checked against `sha256`, or has it. Raises OSError."""
    temporary = stamp.with_name(f"{stamp.name}.{os.getpid()}.{threading.get_ident()}")
    write_file(temporary, json.dumps(_stamped(path, sha256)), SHARED)
    temporary.replace(stamp)


def _noted(path: Path, note: Path) -> str:
    """The digest that the note has for the file as it is now; empty if it has none."""
    try:
        noted = json.loads(note.read_text("utf-8"))
        sha256 = noted["sha256"]
        return str(sha256) if noted == _stamped(path, sha256) else ""
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _stamped(path: Path, sha256: str) -> dict[str, int | str]:
    found = path.stat()
    return {"size_bytes": found.st_size, "modified_ns": found.st_mtime_ns, "sha256": sha256}
