"""Counts of what happened, by words of a fixed set, for metrics: everything that is dropped is counted, nothing is logged per packet."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class Counters:
    """Named counts that only grow. The names come from the code, never from the network."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, name: str, by: int = 1) -> None:
        self._counts[name] = self._counts.get(name, 0) + by

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    @property
    def all(self) -> Mapping[str, int]:
        return MappingProxyType(self._counts)

    def __repr__(self) -> str:
        return f"<Counters {self._counts}>"
