"""Which workers a generation leaves out, what their refusals mean for it, and what is told of them if it fails. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from roost.cluster.errors import (
    EngineFailed,
    HandedOver,
    ModelLoadFailed,
    NoCapacity,
    RoostError,
    ServerStopping,
    StaleAttempt,
    WorkerDraining,
)
from roost.flow.errors import Failure, NoWorkerTookIt
from roost.placement.request import MAX_EXCLUDED


class Setback(enum.Enum):
    """Why a worker did not do it; another one may."""

    BUSY = "busy"  # its queue is full: it may take the request a moment later
    REFUSED = "refused"  # it takes no requests now (draining)
    LOST = "lost"  # it was not reached, broke, or fell silent
    CANNOT_LOAD = "cannot load"  # its copy of the model does not load: it would fail again
    CANNOT_GO_ON = "cannot go on"  # it does not continue what another one began, or not as exactly as is wanted


_SETBACKS: Final[Mapping[type[RoostError], Setback]] = {
    NoCapacity: Setback.BUSY,
    WorkerDraining: Setback.REFUSED,
    HandedOver: Setback.REFUSED,
    ServerStopping: Setback.REFUSED,
    EngineFailed: Setback.LOST,
    ModelLoadFailed: Setback.CANNOT_LOAD,
    StaleAttempt: Setback.LOST,  # a call of ours came late or twice: the next attempt has a higher number
}
_LASTING: Final = frozenset({Setback.CANNOT_LOAD, Setback.CANNOT_GO_ON})


def setback_of(error: RoostError) -> Setback | None:
    """What a worker's refusal means for the request; None: no other worker would do better, the caller is told."""
    return _SETBACKS.get(type(error))


class Setbacks:
    """State: the workers that are left out, why, and each failure so far.

    Invariants: `made`, their number, never passes `most`; whoever is left out has failed since it was last let in.
    """

    __slots__ = ("_busy_wish_s", "_load_error", "_others", "failures", "left_out", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.failures: list[Failure] = []
        self.left_out: dict[str, Setback] = {}
        self._busy_wish_s: float | None = None
        self._load_error: RoostError | None = None
        self._others = 0  # failures that were no failed loads

    @property
    def made(self) -> int:
        """Failures so far."""
        return len(self.failures)

    @property
    def is_over(self) -> bool:
        """Whether no other worker is to be asked."""
        return self.made >= self.most

    @property
    def excluded(self) -> frozenset[str]:
        return frozenset(self.left_out)

    def worker_refused(self, worker_id: str, error: RoostError, setback: Setback, wish_s: float) -> None:
        """Leaves it out. Its wish concerns it alone, so it is kept for the case that nobody else is left."""
        if setback is Setback.CANNOT_LOAD:
            self._load_error = error
        self.worker_failed(Failure(worker_id, str(error)), setback)
        if setback is Setback.BUSY:
            self._busy_wish_s = wish_s if self._busy_wish_s is None else min(wish_s, self._busy_wish_s)

    def worker_failed(self, failure: Failure, setback: Setback) -> None:
        """Leaves it out."""
        self.failures.append(failure)
        self._others += setback is not Setback.CANNOT_LOAD
        if len(self.left_out) < MAX_EXCLUDED:
            self.left_out[failure.who] = setback

    @property
    def is_hopeless(self) -> bool:
        """Whether all that failed did because they cannot load the model."""
        return self._load_error is not None and self._others == 0

    @property
    def is_stuck(self) -> bool:
        """Whether all that are left out neither continue what was begun nor will."""
        return bool(self.left_out) and _LASTING.issuperset(self.left_out.values())

    def let_in(self) -> float:
        """There is nobody but those left out: whatever may have passed is forgotten. Seconds after which the first of those that were only
        busy wants to be asked again, 0.0 if none was.
        """
        self.left_out = {worker_id: setback for worker_id, setback in self.left_out.items() if setback in _LASTING}
        wish_s, self._busy_wish_s = self._busy_wish_s, None
        return wish_s or 0.0

    def error(self, cause: RoostError | None) -> RoostError:
        """What the caller is told if there is no other try; `cause` is what the deciders said last."""
        if self.is_hopeless and self._load_error is not None:
            return self._load_error
        last = f"gave up after {self.made} attempts" if self.is_over else "there was no time for another attempt"
        error = NoWorkerTookIt(self.failures, last)
        error.__cause__ = cause
        return error

    def __repr__(self) -> str:
        return f"<Setbacks {self.made}/{self.most}, without {', '.join(sorted(self.left_out)) or '-'}>"
