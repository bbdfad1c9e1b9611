"""Where chance comes from: an object that is passed in, so that a run can be repeated from its seed."""

from __future__ import annotations

from typing import Protocol


class Rng(Protocol):
    """The part of `random.Random` that placement uses."""

    def random(self) -> float:
        """Uniform in [0.0, 1.0)."""

    def randrange(self, stop: int, /) -> int:
        """Uniform in 0 .. stop - 1."""
