"""The rows of the table: each is one story of faults, and the mode of the cluster that it happens to."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from roost.placement.rng import Rng


class Act(enum.Enum):
    """What is done to a process."""

    KILL = "kill -9"
    END = "SIGTERM"
    STOP = "SIGSTOP"
    CONTINUE = "SIGCONT"
    START = "start"
    RESTART = "SIGTERM and start"


@dataclass(frozen=True, slots=True)
class Step:
    """One act, `after_s` seconds after the row's first fault, on the drawn process of `role` or on every one."""

    after_s: float
    act: Act
    role: str
    is_on_every: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A name, a sentence for people, the mode it needs and its steps in the order of their times."""

    name: str
    says: str
    mode: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """One act on one named process, `at_s` seconds after the load began."""

    at_s: float
    act: Act
    process: str


WORKER, SIDECAR, COORDINATOR = "worker", "sidecar", "coordinator"
ROWS: Final = (
    Row("worker-killed", "worker kill -9 under load", "central", (Step(0, Act.KILL, WORKER), Step(2, Act.START, WORKER))),
    Row("worker-ended", "worker SIGTERM while it tells", "central", (Step(0, Act.RESTART, WORKER),)),
    Row("worker-stopped", "worker stopped 10 s", "central", (Step(0, Act.STOP, WORKER), Step(10, Act.CONTINUE, WORKER))),
    Row(
        "coordinator-killed",
        "coordinator kill -9 and restart",
        "central",
        (Step(0, Act.KILL, COORDINATOR), Step(0.5, Act.START, COORDINATOR)),
    ),
    Row(
        "coordinator-stopped",
        "coordinator stopped 10 s",
        "hybrid",
        (Step(0, Act.STOP, COORDINATOR), Step(10, Act.CONTINUE, COORDINATOR)),
    ),
    Row("sidecar-killed", "sidecar kill -9", "gossip", (Step(0, Act.KILL, SIDECAR), Step(2, Act.START, SIDECAR))),
    Row("sidecar-stopped", "sidecar stopped 10 s", "gossip", (Step(0, Act.STOP, SIDECAR), Step(10, Act.CONTINUE, SIDECAR))),
    Row(
        "pair-killed",
        "worker and its sidecar kill -9",
        "gossip",
        (Step(0, Act.KILL, WORKER), Step(0, Act.KILL, SIDECAR), Step(2, Act.START, SIDECAR), Step(2, Act.START, WORKER)),
    ),
    Row("sidecars-restarted", "all sidecars restarted", "gossip", (Step(0, Act.RESTART, SIDECAR, is_on_every=True),)),
    Row(
        "rolling-restart",
        "rolling restart of everything",
        "central",
        (Step(0, Act.RESTART, COORDINATOR), Step(0.5, Act.RESTART, WORKER, is_on_every=True)),
    ),
)


def schedule(row: Row, *, workers: int, begins_s: float, rng: Rng) -> tuple[Fault, ...]:
    """The row's faults in the order they happen. One number of `workers` is drawn: a worker and its sidecar fall together.

    The first fault comes up to 0.5 s after `begins_s`, so that trials meet streams at different tokens.
    """
    victim = int(rng.random() * workers) + 1
    begins_s += rng.random() * 0.5
    return tuple(
        Fault(begins_s + step.after_s, step.act, process)
        for step in row.steps
        for process in _processes(step, workers=workers, victim=victim)
    )


def _processes(step: Step, *, workers: int, victim: int) -> tuple[str, ...]:
    if step.role == COORDINATOR:
        return (COORDINATOR,)
    numbers = range(1, workers + 1) if step.is_on_every else (victim,)
    return tuple(f"{step.role}-{number}" for number in numbers)
