"""What one worker says of itself at one moment, as an immutable value that cannot be built invalid."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from roost.cluster.errors import InvalidField
from roost.cluster.names import PRIORITIES, check_model_name, check_worker_name

MAX_RESIDENT_MODELS = 10_000  # more than any memory holds; a report beyond it is a mistake or an attack
MAX_FAILING = 256  # models; a worker on which more fail is broken, and as many tell so
MAX_WHY = 200  # characters
MAX_OUTCOMES = 4_096  # a report carries at most this many; the rest ride the next one


class Phase(enum.Enum):
    """Residency of a model on a worker; an absent model is simply not listed."""

    LOADING = "loading"
    READY = "ready"


_READY = Phase.READY  # an enum's member is looked up in Python: too slow for what is asked of each model of each report


class GpuSource(enum.Enum):
    """Where a GPU utilisation came from."""

    UNKNOWN = "unknown"
    NVML = "nvml"
    BUSY_SLOTS = "busy_slots"


class CacheResult(enum.Enum):
    """What a request found when it reached a worker's model cache."""

    HIT = "hit"
    COLD_START = "cold_start"
    JOIN = "join"
    REFUSED = "refused"  # turned away before the cache was asked

    __hash__ = object.__hash__  # Enum's own hashes the name in Python; each request and each report counts by this several times


class Liveness(enum.Enum):
    """What a decider believes of a worker's life. Only LIVE workers get new work."""

    LIVE = "live"
    SUSPECT = "suspect"
    DEAD = "dead"

    __hash__ = object.__hash__  # as above


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One resident model. `ready_in_s` is the expected time to ready of a loading one, 0.0 if ready or unknown.

    `max_parallel` of its requests can run at once; 0 means as many as there are slots.
    """

    name: str
    phase: Phase
    size_bytes: int = 0
    in_flight: int = 0
    queued: int = 0
    ready_in_s: float = 0.0
    is_pinned: bool = False
    max_parallel: int = 0

    def __post_init__(self) -> None:
        check_model_name(self.name, "models.name")
        if not math.isfinite(self.ready_in_s) or self.ready_in_s < 0:
            raise InvalidField("models.ready_in_s", "must be a finite number of seconds, 0 or more")

    @property
    def is_ready(self) -> bool:
        return self.phase is _READY


@dataclass(frozen=True, slots=True)
class ModelTiming:
    """Smoothed measurements of one model on one worker; 0.0 means never measured."""

    service_time_s: float = 0.0
    load_time_s: float = 0.0

    def __post_init__(self) -> None:
        for name, seconds in (("service_time_s", self.service_time_s), ("load_time_s", self.load_time_s)):
            if not math.isfinite(seconds) or seconds < 0:
                raise InvalidField(f"timings.{name}", "must be a finite number of seconds, 0 or more")


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """What deciders need to know of a catalogue entry. A worker's own catalogue holds more (`ModelSpec`).

    `load_time_s` is what the worker that lists it expects a load to take; 0.0 means not known.
    """

    name: str
    engine: str
    size_bytes: int
    is_simulated: bool = False
    context_tokens: int = 0
    load_time_s: float = 0.0

    def __post_init__(self) -> None:
        check_model_name(self.name, "catalogue.name")
        if not math.isfinite(self.load_time_s) or self.load_time_s < 0:
            raise InvalidField("catalogue.load_time_s", "must be a finite number of seconds, 0 or more")


@dataclass(frozen=True, slots=True)
class Failing:
    """What has failed of one model on one worker since it last went well there: loads, and requests that its engine broke off, in a row.

    `why` is what went wrong last.
    """

    failed_loads: int = 0
    lost_calls: int = 0
    why: str = ""

    def __post_init__(self) -> None:
        if self.failed_loads < 0 or self.lost_calls < 0:
            raise InvalidField("failing", "must count 0 or more")
        if len(self.why) > MAX_WHY:
            raise InvalidField("failing.why", f"has {len(self.why)} characters; at most {MAX_WHY} are allowed")


@dataclass(frozen=True, slots=True)
class CacheCounters:
    """Counts of one epoch; each only grows."""

    hits: int = 0
    cold_starts: int = 0
    joins: int = 0
    loads: int = 0
    evictions: int = 0


@dataclass(frozen=True, slots=True)
class DecisionOutcome:
    """What became of one decision when its request reached the worker."""

    decision_id: str
    cache_result: CacheResult


@dataclass(frozen=True, slots=True)
class Changes:
    """Which models and timings may differ from the report `since` (a sequence) of the same worker and epoch; the others are as they were.

    A name that is no longer listed was taken out. Holds of these very `models` and `timings`, whose pinned ones take `pinned_bytes`.
    """

    since: int
    changed_models: tuple[str, ...]
    changed_timings: tuple[str, ...]
    models: Mapping[str, ModelStatus] = field(repr=False)
    timings: Mapping[str, ModelTiming] = field(repr=False)
    pinned_bytes: int


_NO_MODELS: Mapping[str, ModelStatus] = MappingProxyType({})
_NO_TIMINGS: Mapping[str, ModelTiming] = MappingProxyType({})
NOTHING_FAILS: Mapping[str, Failing] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One report. `epoch` is one life of the worker (0: not tracked) and `sequence` counts its reports.

    `models` maps name to status for loading and ready models, `failing` those that fail to what has failed; `catalogue` is None where the
    report leaves it unchanged. `changes` tells what differs from an earlier report, so that nobody has to compare them; None: not known. It
    is no part of what is said.
    Raises InvalidField if a value is out of range.
    """

    node_id: str
    models: Mapping[str, ModelStatus] = field(default_factory=lambda: _NO_MODELS)
    queue_depth: int = 0
    gpu_utilization: float = 0.0
    timestamp: float = 0.0
    epoch: int = 0
    sequence: int = 0
    address: str = ""
    memory_capacity_bytes: int = 0
    memory_used_bytes: int = 0
    slots: int = 1
    busy_slots: int = 0
    queue_by_priority: tuple[int, ...] = ()
    timings: Mapping[str, ModelTiming] = field(default_factory=lambda: _NO_TIMINGS)
    is_draining: bool = False
    gpu_source: GpuSource = GpuSource.UNKNOWN
    catalogue: tuple[CatalogueModel, ...] | None = None
    outcomes: tuple[DecisionOutcome, ...] = ()
    cache: CacheCounters | None = None
    failing: Mapping[str, Failing] = field(default_factory=lambda: NOTHING_FAILS)
    changes: Changes | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_worker_name(self.node_id)
        if not 0.0 <= self.gpu_utilization <= 1.0:  # also refuses NaN
            raise InvalidField("gpu_utilization", f"must be 0.0-1.0 (got {self.gpu_utilization})")
        if not math.isfinite(self.timestamp) or self.timestamp < 0:
            raise InvalidField("timestamp", "must be seconds since the Unix epoch, or 0")
        if self.queue_depth < 0 or self.busy_slots < 0:
            raise InvalidField("queue_depth" if self.queue_depth < 0 else "busy_slots", "must be 0 or more")
        if self.slots < 1:
            raise InvalidField("slots", "must be 1 or more")
        if len(self.models) > MAX_RESIDENT_MODELS:
            raise InvalidField("models", f"lists {len(self.models)} models; at most {MAX_RESIDENT_MODELS} are allowed")
        if len(self.failing) > MAX_FAILING:
            raise InvalidField("failing", f"lists {len(self.failing)} models; at most {MAX_FAILING} are allowed")
        if self.queue_by_priority and len(self.queue_by_priority) != PRIORITIES:
            raise InvalidField("queue_by_priority", f"must be empty or have {PRIORITIES} entries")

    def changes_from(self, before: WorkerState) -> Changes | None:
        """What differs from `before`, where this report was made to follow it; None where they have to be compared."""
        said = self.changes
        if said is None or said.since != before.sequence or self.epoch != before.epoch or self.epoch == 0:
            return None
        return said if said.models is self.models and said.timings is self.timings else None

    @property
    def pinned_bytes(self) -> int:
        """Memory of the models that are never evicted to make room."""
        said = self.changes
        if said is not None and said.models is self.models:
            return said.pinned_bytes
        pinned = 0
        for status in self.models.values():
            if status.is_pinned:
                pinned += status.size_bytes
        return pinned

    def has_ready(self, model: str) -> bool:
        status = self.models.get(model)
        return status is not None and status.is_ready

    @property
    def ready_models(self) -> tuple[str, ...]:
        """Names of the ready models, ordered: what the wire calls loaded_models."""
        return tuple(sorted(name for name, status in self.models.items() if status.is_ready))

    def __repr__(self) -> str:
        return (
            f"<{self.node_id} e{self.epoch}#{self.sequence} ready={','.join(self.ready_models) or '-'} "
            f"queue={self.queue_depth} busy={self.busy_slots}/{self.slots}{' draining' if self.is_draining else ''}>"
        )
