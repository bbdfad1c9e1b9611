"""The typed face of `sortedcontainers.SortedList`, as far as it is used here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, cast

from sortedcontainers import SortedList

T = TypeVar("T")


class Ordered(Protocol[T]):
    """A multiset kept in order; adding, removing and finding a place cost O(log n)."""

    def add(self, value: T) -> None: ...
    def remove(self, value: T) -> None: ...
    def pop(self, index: int = -1) -> T: ...
    def bisect_right(self, value: T) -> int: ...
    def irange(self, minimum: T | None = None, maximum: T | None = None, inclusive: tuple[bool, bool] = (True, True)) -> Iterator[T]: ...
    def __getitem__(self, index: int) -> T: ...
    def __iter__(self) -> Iterator[T]: ...
    def __len__(self) -> int: ...


def ordered(values: Iterable[T] = ()) -> Ordered[T]:
    """An `Ordered` that holds `values`."""
    return cast("Ordered[T]", SortedList(values))
