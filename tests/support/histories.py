"""Behaviour as text: a history is a file of facts told to a pure core and of what came of each, which a run must reproduce.

A history is made of paragraphs: lines of facts, a line "----", and the lines that `play` answers. Lines that begin with "#" are comments.
With REWRITE_HISTORIES=1 in the environment what came of the facts is written into the file instead of compared: read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

LINE = "----"

Play = Callable[[str], list[str]]
"""Takes one line of facts and returns the lines of what came of it."""


def histories_of(folder: Path) -> list[Path]:
    """Every history in the folder, by name."""
    return sorted(folder.glob("*.txt"))


def check_history(path: Path, play: Play) -> None:
    """Plays the file. Fails where something else came of a fact than the file says."""
    played = "\n\n".join(_paragraphs(path.read_text(encoding="utf-8"), play)) + "\n"
    if os.environ.get("REWRITE_HISTORIES"):
        path.write_text(played, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == played, f"{path.name} is not what happened; REWRITE_HISTORIES=1 writes what did"


def _paragraphs(text: str, play: Play) -> Iterator[str]:
    for paragraph in filter(None, (each.strip() for each in text.split("\n\n"))):
        lines = paragraph.splitlines()
        facts = lines[: lines.index(LINE)] if LINE in lines else lines
        answers = [answer for fact in facts if not fact.startswith("#") for answer in play(fact)]
        is_comment = all(fact.startswith("#") for fact in facts)
        yield "\n".join(facts if is_comment else [*facts, LINE, *(answers or ["(nothing)"])])
