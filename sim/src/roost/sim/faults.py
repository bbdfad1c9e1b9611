"""What goes wrong, and when."""

from __future__ import annotations

import enum
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
