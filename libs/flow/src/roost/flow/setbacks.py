"""Which workers a generation leaves out, and what their refusals mean for it. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from roost.cluster.errors import EngineFailed, ModelLoadFailed, NoCapacity, RoostError, ServerStopping, WorkerDraining
from roost.placement.request import MAX_EXCLUDED


class Setback(enum.Enum):
    """Why a worker did not do it; another one may."""

    BUSY = "busy"  # its queue is full: it may take the request a moment later
    REFUSED = "refused"  # it takes no requests now (draining)
    LOST = "lost"  # it was not reached, or broke before the first token
    CANNOT_LOAD = "cannot load"  # its copy of the model does not load: it would fail again


_SETBACKS: Final[Mapping[type[RoostError], Setback]] = {
    NoCapacity: Setback.BUSY,
    WorkerDraining: Setback.REFUSED,
    ServerStopping: Setback.REFUSED,
    EngineFailed: Setback.LOST,
    ModelLoadFailed: Setback.CANNOT_LOAD,
}


def setback_of(error: RoostError) -> Setback | None:
    """What a worker's refusal means for the request; None: no other worker would do better, the caller is told."""
    return _SETBACKS.get(type(error))


class Setbacks:
    """State: the workers that are left out, why, and how many have failed so far.

    Invariants: `made` never passes `most`; whoever is left out has failed since it was last let in.
    """

    __slots__ = ("_busy_wish_s", "_failed_otherwise", "left_out", "made", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.made = 0
        self.left_out: dict[str, Setback] = {}
        self._busy_wish_s: float | None = None
        self._failed_otherwise = 0

    @property
    def is_over(self) -> bool:
        """Whether no other worker is to be asked."""
        return self.made >= self.most

    @property
    def excluded(self) -> frozenset[str]:
        return frozenset(self.left_out)

    def worker_failed(self, worker_id: str, setback: Setback, *, wish_s: float = 0.0) -> None:
        """Leaves it out. Its wish concerns it alone, so it is kept for the case that nobody else is left."""
        self.made += 1
        self._failed_otherwise += setback is not Setback.CANNOT_LOAD
        if len(self.left_out) < MAX_EXCLUDED:
            self.left_out[worker_id] = setback
        if setback is Setback.BUSY:
            self._busy_wish_s = wish_s if self._busy_wish_s is None else min(wish_s, self._busy_wish_s)

    @property
    def is_hopeless(self) -> bool:
        """Whether all that failed did because they cannot load the model."""
        return self.made > 0 and self._failed_otherwise == 0

    def let_in(self) -> float:
        """There is nobody but those left out: whatever may have passed is forgotten. Seconds after which the first of those that were only
        busy wants to be asked again, 0.0 if none was.
        """
        self.left_out = {worker_id: setback for worker_id, setback in self.left_out.items() if setback is Setback.CANNOT_LOAD}
        wish_s, self._busy_wish_s = self._busy_wish_s, None
        return wish_s or 0.0

    def __repr__(self) -> str:
        return f"<Setbacks {self.made}/{self.most}, without {', '.join(sorted(self.left_out)) or '-'}>"
