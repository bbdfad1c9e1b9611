"""What goes wrong, and when."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class Kind(enum.Enum):
    """The value is the word in the run's events."""

    KILL_COORDINATOR = "coordinator killed"
    RESTART_COORDINATOR = "coordinator restarted"
    KILL_WORKER = "killed"
    RESTART_WORKER = "restarted"
    PART = "cut off"
    HEAL = "reached again"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing at one time. `workers` are numbers from 0; a worker's sidecar shares its fate."""

    at_s: float
    kind: Kind
    workers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FailingLoads:
    """Loads that begin on a worker from `from_s` until `until_s` fail, each after `after_s`: of the models of these numbers, or of all.

    Raises ValueError for times that cannot be.
    """

    worker: int
    models: tuple[int, ...] | None = None
    from_s: float = 0.0
    until_s: float = math.inf
    after_s: float = 0.01

    def __post_init__(self) -> None:
        if not (0.0 <= self.after_s < math.inf and self.from_s <= self.until_s):
            raise ValueError("failing_loads must have after_s of 0 or more and finite, and until_s not before from_s")

    def hits(self, worker: int, model: int, now: float) -> bool:
        return worker == self.worker and self.from_s <= now < self.until_s and (self.models is None or model in self.models)


def kill_coordinator(at_s: float) -> tuple[Fault, ...]:
    """Its process ends without a word."""
    return (Fault(at_s, Kind.KILL_COORDINATOR),)


def restart_coordinator(at_s: float) -> tuple[Fault, ...]:
    """It comes back and knows nothing."""
    return (Fault(at_s, Kind.RESTART_COORDINATOR),)


def kill_worker(at_s: float, worker: int) -> tuple[Fault, ...]:
    """The worker and the sidecar beside it end without a word."""
    return (Fault(at_s, Kind.KILL_WORKER, (worker,)),)


def restart_worker(at_s: float, worker: int) -> tuple[Fault, ...]:
    """They come back with empty memory."""
    return (Fault(at_s, Kind.RESTART_WORKER, (worker,)),)


def partition(at_s: float, until_s: float, workers: tuple[int, ...]) -> tuple[Fault, ...]:
    """These workers with their sidecars reach each other and nobody else, clients included, until then."""
    return (Fault(at_s, Kind.PART, workers), Fault(until_s, Kind.HEAL, workers))
