"""What a client gets back: immutable values in the cluster's own words. Times are in seconds, sizes in bytes."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from roost.cluster.worker_state import CacheResult, CatalogueModel, Liveness, WorkerState
from roost.flow.steps import Accepted, Completed, Exactness, FinishReason, Phase, Progress, Resumed, ResumePolicy, Timings, Token, Usage
from roost.placement.decision import Action

__all__ = [
    "Accepted",
    "ClusterState",
    "Completed",
    "Decision",
    "Event",
    "Exactness",
    "FinishReason",
    "Generation",
    "ModelSnapshot",
    "Phase",
    "Plane",
    "Progress",
    "ResumePolicy",
    "Resumed",
    "Scheduled",
    "Timings",
    "Token",
    "Usage",
    "WorkerOutcome",
    "WorkerSnapshot",
]


class Plane(enum.Enum):
    """Who decided: the coordinator or a gossip sidecar."""

    UNKNOWN = "unknown"
    CENTRAL = "central"
    GOSSIP = "gossip"


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a request should run. Fields are named as on the wire; `estimated_wait_time` and `view_age_s` are seconds.

    An empty `worker_address` is a worker that cannot be called. `is_dry_run`: this is where it would run; nothing was reserved or counted.
    """

    worker_id: str
    action: Action
    estimated_wait_time: float
    reason: str
    worker_address: str
    view_age_s: float
    decision_id: str
    plane: Plane
    request_id: str
    policy: str
    waited_for_load: bool = False
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A worker was chosen. `attempt` counts from 1; `previous` says what went wrong before, empty on the first."""

    decision: Decision
    attempt: int
    previous: str = ""


Event = Scheduled | Accepted | Progress | Resumed | Token | Completed


@dataclass(frozen=True, slots=True)
class Generation:
    """A whole generation. `decisions` has one entry an attempt; the last one's worker made the text, or, where it was resumed, its end.

    `exactness`: whether the text reads as it would have without its `resumes`, and if not, why.
    """

    request_id: str
    text: str
    tokens: tuple[Token, ...]
    decisions: tuple[Decision, ...]
    usage: Usage
    timings: Timings
    cache: CacheResult | None
    finish_reason: FinishReason
    resumed: tuple[Resumed, ...] = ()
    resumes: int = 0
    exactness: Exactness = Exactness.UNKNOWN
    approximate_because: str = ""

    @property
    def worker_id(self) -> str:
        return self.decisions[-1].worker_id

    @property
    def attempts(self) -> int:
        return len(self.decisions)


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """One worker as the decider sees it; `age_s` is the age of that knowledge."""

    state: WorkerState
    liveness: Liveness
    age_s: float
    reservations: int


@dataclass(frozen=True, slots=True)
class PassedOverWorker:
    """A worker that gets no request for a model for now, because of what has failed there. `retry_in_s` is 0.0 where one tries it now."""

    worker_id: str
    why: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """One model, and the live workers where it is ready or loading, and those that are passed over because it failed there."""

    model: CatalogueModel
    ready_on: tuple[str, ...]
    loading_on: tuple[str, ...]
    passed_over: tuple[PassedOverWorker, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The decider's view and its totals. Counts are since it started; `cache_hit_rate` is 0.0-1.0."""

    cache_hit_rate: float
    total_requests: int
    active_workers: int
    average_gpu_utilization: float
    total_queue_depth: int
    workers: tuple[WorkerSnapshot, ...]
    models: tuple[ModelSnapshot, ...]
    cache_hits: int
    cold_starts: int
    joins: int
    policy: str
    plane: Plane
    version: int


@dataclass(frozen=True, slots=True)
class WorkerOutcome:
    """What one worker did for a load or unload. `is_unchanged`: there was nothing to do."""

    worker_id: str
    elapsed_s: float
    is_unchanged: bool
