"""What the worker says of itself: one WorkerState, made from everything that owns a part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from roost.cluster.catalogue import Catalogue
from roost.cluster.worker_state import CacheCounters, CacheResult, CatalogueModel, DecisionOutcome, ModelStatus, Phase, WorkerState
from roost.worker.core.model_cache import ModelCache
from roost.worker.core.outcomes import Outcomes
from roost.worker.core.residency import Residency, Stage
from roost.worker.core.slots import Slots
from roost.worker.core.timings import LearnedTimes
from roost.worker.gpu import GpuMeter

MAX_STATUSES = 1_024  # models whose last status is kept: more than fit most memories
# Members of enums that every report names: to look them up by their class is slow.
_READY, _READY_STAGE, _LOADING = Phase.READY, Stage.READY, Stage.LOADING
_HIT, _COLD_START, _JOIN = CacheResult.HIT, CacheResult.COLD_START, CacheResult.JOIN

SOONEST_READY_S = 0.05  # said of a load that takes longer than expected, or no time: it is not ready, so it is not 0


@dataclass(frozen=True, slots=True)
class Clocks:
    """`monotonic` measures durations; `wall` dates reports, in seconds since the Unix epoch."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


class House(Protocol):
    """What keeps the models of a worker, and how often it loaded one or put one out."""

    @property
    def cache(self) -> ModelCache: ...
    @property
    def loads(self) -> int: ...
    @property
    def evictions(self) -> int: ...


class Work(Protocol):
    """The worker's work as far as a report tells of it: of a process, or of a worker in virtual time."""

    @property
    def node_id(self) -> str: ...
    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def host(self) -> House: ...
    @property
    def slots(self) -> Slots: ...
    @property
    def times(self) -> LearnedTimes: ...
    @property
    def outcomes(self) -> Outcomes: ...
    @property
    def is_draining(self) -> bool: ...
    def expected_load_s(self, name: str) -> float: ...
    def catalogue_models(self) -> tuple[CatalogueModel, ...]: ...


class Reporter:
    """State: this life's epoch, the number of the last report, the address by which clients reach this worker, and what it said last.

    What has not changed is said by the same values again, which are made and compared sooner.
    """

    def __init__(self, runtime: Work, gpu: GpuMeter, *, epoch: int, clocks: Clocks) -> None:
        self.address = ""
        self._runtime = runtime
        self._gpu = gpu
        self._epoch = epoch
        self._clocks = clocks
        self._sequence = 0
        self._statuses: dict[str, tuple[tuple[object, ...], ModelStatus]] = {}
        self._counted: tuple[int, int, int, int, int] | None = None
        self._counts = CacheCounters()

    def next_report(self, *, has_catalogue: bool, outcomes: tuple[DecisionOutcome, ...]) -> WorkerState:
        """The state now, as the next report of this epoch."""
        self._sequence += 1
        return self.state(self._runtime.catalogue_models() if has_catalogue else None, outcomes)

    def state(self, catalogue: tuple[CatalogueModel, ...] | None = None, outcomes: tuple[DecisionOutcome, ...] = ()) -> WorkerState:
        """The state now, under the number of the last report."""
        runtime, slots, cache = self._runtime, self._runtime.slots, self._runtime.host.cache
        reading = self._gpu.reading(slots.busy, slots.slots)
        return WorkerState(
            node_id=runtime.node_id,
            models={status.name: status for status in self.resident()},
            queue_depth=slots.queue_depth,
            gpu_utilization=reading.utilization,
            timestamp=self._clocks.wall(),
            epoch=self._epoch,
            sequence=self._sequence,
            address=self.address,
            memory_capacity_bytes=cache.budget_bytes,
            memory_used_bytes=cache.used_bytes,
            slots=slots.slots,
            busy_slots=slots.busy,
            queue_by_priority=slots.depth_by_priority(),
            timings=dict(runtime.times.timings),
            is_draining=runtime.is_draining,
            gpu_source=reading.source,
            catalogue=catalogue,
            outcomes=outcomes,
            cache=self._counters(),
        )

    def resident(self) -> Iterator[ModelStatus]:
        """What a new request would find: ready or coming. A retiring model is neither; it is listed while its next load waits."""
        cache, now = self._runtime.host.cache, self._clocks.monotonic()
        waiting_s = 0.0
        for residency in cache.resident:
            if residency.takes_new_requests:
                yield self._status(residency, _READY, 0.0)
            elif residency.stage is _LOADING:
                remaining_s = max(SOONEST_READY_S, residency.load_started_at + self._expected_load_s(residency) - now)
                waiting_s = max(waiting_s, remaining_s)
                yield self._status(residency, Phase.LOADING, remaining_s)
        waiting_s += max((self._runtime.times.expected_service_s(each.name) for each in cache.resident if each.is_retiring), default=0.0)
        for residency in cache.waiting:
            waiting_s += max(SOONEST_READY_S, self._expected_load_s(residency))
            yield self._status(residency, Phase.LOADING, waiting_s)

    def _status(self, residency: Residency, phase: Phase, ready_in_s: float) -> ModelStatus:
        name, slots = residency.name, self._runtime.slots
        size_bytes = residency.size_bytes if residency.has_memory else 0
        in_flight, queued, max_parallel = slots.running(name), slots.queued(name), self._max_parallel(residency)
        facts = (phase, size_bytes, in_flight, queued, ready_in_s, residency.is_pinned, max_parallel)
        said = self._statuses.get(name)
        if said is not None and said[0] == facts:
            return said[1]
        status = ModelStatus(name, phase, size_bytes, in_flight, queued, ready_in_s, residency.is_pinned, max_parallel)
        if len(self._statuses) > MAX_STATUSES:
            self._statuses.clear()
        self._statuses[name] = (facts, status)
        return status

    def _expected_load_s(self, residency: Residency) -> float:
        return self._runtime.expected_load_s(residency.name)

    def _max_parallel(self, residency: Residency) -> int:
        """The engine's word once it is loaded, the catalogue's before."""
        return residency.max_parallel if residency.stage is _READY_STAGE else self._runtime.catalogue.get(residency.name).max_parallel

    def _counters(self) -> CacheCounters:
        lookups, host = self._runtime.outcomes.lookups, self._runtime.host
        counted = (lookups.get(_HIT, 0), lookups.get(_COLD_START, 0), lookups.get(_JOIN, 0), host.loads, host.evictions)
        if counted != self._counted:
            self._counted, self._counts = counted, CacheCounters(*counted)
        return self._counts
