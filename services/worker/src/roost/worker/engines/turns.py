"""Whose turn it is where generations of one model share a processor. Pure.

A piece of a prompt takes as long as a dozen tokens, or a hundred where the context is full. One piece and one token by turns would let
a long prompt slow everybody else down to a token for each of its pieces; so those who read and those who write take equal time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Taker(Protocol):
    """A generation."""

    @property
    def is_reading(self) -> bool:
        """Whether its next turn reads a piece of its prompt; else it writes a token."""


G = TypeVar("G", bound=Taker)


class Turns(Generic[G]):
    """State: who reads and who writes, each in order, and by how much longer the readers had the processor while writers were there."""

    def __init__(self) -> None:
        self._reading: deque[G] = deque()
        self._writing: deque[G] = deque()
        self._ahead_s = 0.0

    def __len__(self) -> int:
        return len(self._reading) + len(self._writing)

    def __iter__(self) -> Iterator[G]:
        yield from self._reading
        yield from self._writing

    def add(self, taker: G) -> None:
        """Last of its kind."""
        (self._reading if taker.is_reading else self._writing).append(taker)

    def remove(self, taker: G) -> None:
        """Raises ValueError if it has no turn to come."""
        (self._reading if taker in self._reading else self._writing).remove(taker)

    def next(self) -> G:
        """The one whose turn it is; it has none to come until it is added again. Raises IndexError if nobody is there."""
        if not (self._reading and self._writing):
            self._ahead_s = 0.0
            return (self._reading or self._writing).popleft()
        return (self._writing if self._ahead_s > 0 else self._reading).popleft()

    def took(self, seconds: float, *, was_reading: bool) -> None:
        """A turn is over. It counts where somebody of the other kind waited meanwhile."""
        if self._writing if was_reading else self._reading:
            self._ahead_s += seconds if was_reading else -seconds

    def __repr__(self) -> str:
        return f"<Turns {len(self._reading)} reading, {len(self._writing)} writing, readers {self._ahead_s:+.2f} s>"
