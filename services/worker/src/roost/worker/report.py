"""What the worker says of itself: one WorkerState, made from everything that owns a part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from roost.cluster.catalogue import Catalogue
from roost.cluster.worker_state import CacheCounters, CacheResult, CatalogueModel, DecisionOutcome, ModelStatus, Phase, WorkerState
from roost.worker.gpu import GpuMeter
from roost.worker.model_cache import ModelCache
from roost.worker.outcomes import Outcomes
from roost.worker.residency import Residency, Stage
from roost.worker.slots import Slots
from roost.worker.timings import LearnedTimes

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
    """State: this life's epoch, the number of the last report, and the address by which clients reach this worker."""

    def __init__(self, runtime: Work, gpu: GpuMeter, *, epoch: int, clocks: Clocks) -> None:
        self.address = ""
        self._runtime = runtime
        self._gpu = gpu
        self._epoch = epoch
        self._clocks = clocks
        self._sequence = 0

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
                yield self._status(residency, Phase.READY, 0.0)
            elif residency.stage is Stage.LOADING:
                remaining_s = max(SOONEST_READY_S, residency.load_started_at + self._expected_load_s(residency) - now)
                waiting_s = max(waiting_s, remaining_s)
                yield self._status(residency, Phase.LOADING, remaining_s)
        waiting_s += max((self._runtime.times.expected_service_s(each.name) for each in cache.resident if each.is_retiring), default=0.0)
        for residency in cache.waiting:
            waiting_s += max(SOONEST_READY_S, self._expected_load_s(residency))
            yield self._status(residency, Phase.LOADING, waiting_s)

    def _status(self, residency: Residency, phase: Phase, ready_in_s: float) -> ModelStatus:
        return ModelStatus(
            name=residency.name,
            phase=phase,
            size_bytes=residency.size_bytes if residency.has_memory else 0,
            in_flight=self._runtime.slots.running(residency.name),
            queued=self._runtime.slots.queued(residency.name),
            ready_in_s=ready_in_s,
            is_pinned=residency.is_pinned,
            max_parallel=self._max_parallel(residency),
        )

    def _expected_load_s(self, residency: Residency) -> float:
        return self._runtime.expected_load_s(residency.name)

    def _max_parallel(self, residency: Residency) -> int:
        """The engine's word once it is loaded, the catalogue's before."""
        return residency.max_parallel if residency.stage is Stage.READY else self._runtime.catalogue.get(residency.name).max_parallel

    def _counters(self) -> CacheCounters:
        lookups, host = self._runtime.outcomes.lookups, self._runtime.host
        return CacheCounters(
            hits=lookups[CacheResult.HIT],
            cold_starts=lookups[CacheResult.COLD_START],
            joins=lookups[CacheResult.JOIN],
            loads=host.loads,
            evictions=host.evictions,
        )
