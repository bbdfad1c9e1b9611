"""Who holds models on a worker: jobs, which are accepted requests, and preloads, which are loads that somebody ordered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from roost.cluster.worker_state import CacheResult
from roost.placement.queue import Place
from roost.worker.core.residency import Lease


class Arriving(Protocol):
    """What the core asks of a request, whoever's it is.

    `decision_id` names the decision that sent it here, empty for none; `waited_for_load`: in the decider, until some worker had the model.
    """

    @property
    def model(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def decision_id(self) -> str: ...
    @property
    def waited_for_load(self) -> bool: ...


@dataclass(eq=False, slots=True)
class Job:
    """One accepted request. Times are the caller's clock; `granted_at` is None until it holds a slot. `number` counts what arrived."""

    model: str
    priority: int
    accepted_at: float
    cache_result: CacheResult
    lease: Lease
    number: int = 0
    ticket: Place | None = field(default=None, repr=False)
    granted_at: float | None = None


@dataclass(eq=False, slots=True)
class Preload:
    """One ordered load, until the model is ready. Times and numbers as a job's."""

    model: str
    ordered_at: float
    cache_result: CacheResult
    lease: Lease
    number: int = 0
    is_pinned: bool = False


Holder = Job | Preload
