"""What the core asks of its driver, as values: carried out in the order in which they come."""

from __future__ import annotations

from dataclasses import dataclass

from roost.cluster.errors import RoostError
from roost.worker.core.jobs import Holder, Job, Preload
from roost.worker.core.residency import Close, StartLoad

__all__ = ["SAY", "SAY_LOAD", "Close", "Effect", "Grant", "Ready", "Refuse", "Say", "StartLoad"]


@dataclass(frozen=True, slots=True)
class Grant:
    """The job holds a slot and its model is ready: run it, then let it `leave`."""

    job: Job


@dataclass(frozen=True, slots=True)
class Ready:
    """What was ordered is loaded; the order is over."""

    preload: Preload


@dataclass(frozen=True, slots=True)
class Refuse:
    """What was accepted will never get its model; it has left already."""

    holder: Holder
    error: RoostError


@dataclass(frozen=True, slots=True)
class Say:
    """Something that a report tells has changed. `is_load_only`: no more than that a request came for a model that was ready."""

    is_load_only: bool


SAY, SAY_LOAD = Say(is_load_only=False), Say(is_load_only=True)

Effect = Grant | StartLoad | Close | Ready | Refuse | Say
