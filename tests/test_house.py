"""The house's rules about itself: its map shows every room, and its index leads to what is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAP = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
_POINTER = re.compile(r"`(?P<path>[\w./-]+/[\w./-]*)`(?: \(`(?P<word>[^`]+)`\))?")
_QUESTIONS = 17  # "Where is" has eleven, "Where do I add" six


def index_rows() -> list[str]:
    """The rows of the two tables that lead to files."""
    index = MAP[MAP.index("## Where is") : MAP.index("## What a change needs")]
    return [line for line in index.splitlines() if line.startswith("| ") and not line.startswith(("| question", "| what |"))]


@pytest.mark.parametrize("row", index_rows(), ids=lambda row: row.split("|")[1].strip())
def test_the_index_leads_to_files_that_are_there_and_hold_the_word(row: str) -> None:
    pointers = list(_POINTER.finditer(row))
    assert 1 <= len(pointers) <= 3
    for pointer in pointers:
        path = ROOT / pointer["path"]
        assert path.exists(), path
        if pointer["word"]:
            assert pointer["word"] in path.read_text("utf-8"), f"{pointer['path']} does not say {pointer['word']!r}"


def test_the_index_answers_every_question() -> None:
    assert len(index_rows()) == _QUESTIONS


@pytest.mark.parametrize("package", PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
def test_every_room_is_on_the_map(package: str) -> None:
    folder = package.removesuffix("/src/roost")
    (name,) = {f"roost.{part.parent.name}" for part in (ROOT / package).glob("*/__init__.py")}
    assert f"| `{folder}` | `{name}` |" in MAP


def test_every_room_is_under_the_import_contracts() -> None:
    parts = {
        f"roost.{part.parent.name}"
        for root in [*ROOT.glob("*/src/roost"), *ROOT.glob("*/*/src/roost")]
        for part in root.glob("*/__init__.py")
    }
    assert parts == set(PROJECT["tool"]["importlinter"]["root_packages"])


@pytest.mark.parametrize("page", sorted((ROOT / "docs/decisions").glob("[0-9]*.md")), ids=lambda page: page.stem)
def test_each_decision_says_why_and_what_it_costs_and_is_listed(page: Path) -> None:
    text = page.read_text("utf-8")
    assert all(part in text for part in ("**Why.**", "**What it costs.**", "**Where.**"))
    assert f"]({page.name})" in (page.parent / "README.md").read_text("utf-8")
    for path in re.findall(r"`((?:libs|services|docs|tests)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
