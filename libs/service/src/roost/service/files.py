"""Files and folders with the mode that they are meant to have, whatever umask the shell that started the process has left it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o640  # logs and recordings: the operator's, and their group's
SHARED: Final = 0o644  # models and what is noted of them: nothing secret, read by other users' workers
FOLDER: Final = 0o755
PRIVATE_FOLDER: Final = 0o700  # in places that everybody shares, as /tmp is


def open_file(path: Path, flags: int, mode: int) -> int:
    """A descriptor of the file, made with exactly that mode if it is not there; one that is there keeps its own. Raises OSError."""
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, mode)
    os.fchmod(fd, mode)
    return fd


def write_file(path: Path, text: str, mode: int) -> None:
    """The whole file anew, in place. Raises OSError."""
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)


def make_folder(path: Path, mode: int = FOLDER) -> None:
    """Makes it with exactly that mode, and its missing parents so that it can be reached; what is there keeps its own. Raises OSError."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        try:
            each.mkdir()
        except FileExistsError:  # somebody else made it meanwhile
            continue
        each.chmod(mode if each == path else FOLDER)
    if not path.is_dir():
        raise NotADirectoryError(20, "is not a folder", str(path))
