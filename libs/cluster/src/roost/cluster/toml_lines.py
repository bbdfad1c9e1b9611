"""Where in a TOML document each table and key stands; `tomllib` itself forgets it.

The document is read statement by statement with `tomllib` as the judge of where a statement ends, so that text
inside multi-line strings, comments and arrays is never mistaken for a header or a key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Final

Path = tuple[str, ...]

MAX_STATEMENT_LINES: Final = 2_000  # each further line is parsed again with those before it


class TomlLines:
    """Line numbers (from 1) by path. Built from a document that `tomllib` has accepted."""

    def __init__(self, text: str) -> None:
        self._line_by_path: dict[Path, int] = {}
        header: Path = ()
        for line, statement, tables in _statements(text):
            if statement.lstrip().startswith("["):
                header = _first_path(tables)
                self._remember(header, line)
            else:
                for path in _paths(tables):
                    self._remember(header + path, line)

    def _remember(self, path: Path, line: int) -> None:
        for end in range(1, len(path) + 1):
            self._line_by_path.setdefault(path[:end], line)

    def line_of(self, path: Path) -> int:
        """The line of `path`, or of the nearest table around it; 1 where nothing around it is written."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._line_by_path:
                return self._line_by_path[path[:end]]
        return 1


def _statements(text: str) -> Iterator[tuple[int, str, Mapping[str, object]]]:
    """Each header or assignment with the line it starts on and what it parses to; it ends where it first parses alone."""
    pending: list[str] = []
    started = 1
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        if not pending:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            started = number
        pending.append(line)
        statement = "\n".join(pending)
        parsed = _parse(statement)
        if parsed is not None:
            yield started, statement, parsed
        if parsed is not None or len(pending) >= MAX_STATEMENT_LINES:
            pending = []


def _parse(statement: str) -> Mapping[str, object] | None:
    try:
        return tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return None


def _first_path(tables: Mapping[str, object]) -> Path:
    """The path that one header opens: `[a.b]` parses to nested tables with one key each (`[[a]]` to a list of one)."""
    path: list[str] = []
    node: object = tables
    while True:
        if isinstance(node, list) and node:
            node = node[0]
        if not isinstance(node, dict) or not node:
            return tuple(path)
        key = next(iter(node))
        path.append(key)
        node = node[key]


def _paths(tables: Mapping[str, object]) -> Iterator[Path]:
    for key, value in tables.items():
        yield (key,)
        if isinstance(value, dict):
            for rest in _paths(value):
                yield (key, *rest)
