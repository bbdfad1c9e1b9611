"""The one source of chance the protocol draws from, passed in so that a run can be repeated from its seed."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Rng(Protocol):
    """What `random.Random` offers and the protocol needs."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...

    def randrange(self, stop: int, /) -> int:
        """A whole number in [0, stop)."""
        ...


def shuffle(items: MutableSequence[T], rng: Rng) -> None:
    """Fisher-Yates in place."""
    for i in range(len(items) - 1, 0, -1):
        j = rng.randrange(i + 1)
        items[i], items[j] = items[j], items[i]


def sample(items: Sequence[T], count: int, rng: Rng) -> list[T]:
    """At most `count` different positions of `items`, in random order."""
    if count >= len(items):
        chosen = list(items)
        shuffle(chosen, rng)
        return chosen
    picked: dict[int, T] = {}
    while len(picked) < count:  # count is a handful and smaller than the sequence: few draws repeat
        i = rng.randrange(len(items))
        picked.setdefault(i, items[i])
    return list(picked.values())


def jittered(interval_s: float, rng: Rng, share: float = 0.1) -> float:
    """`interval_s` give or take `share` of it, so that nodes started together do not act together."""
    return interval_s * (1.0 - share + 2.0 * share * rng.random())
