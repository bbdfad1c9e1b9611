"""What the worker says of itself: one WorkerState, made from everything that the core owns."""

from __future__ import annotations

from collections.abc import Iterator

from roost.cluster.worker_state import CacheCounters, CacheResult, DecisionOutcome, GpuSource, ModelStatus, Phase, WorkerState
from roost.worker.core.life import Life
from roost.worker.core.residency import Residency, Stage
from roost.worker.core.worker_core import WorkerCore

MAX_STATUSES = 1_024  # models whose last status is kept: more than fit most memories
# Members of enums that every report names: to look them up by their class is slow.
_READY, _READY_STAGE, _LOADING = Phase.READY, Stage.READY, Stage.LOADING
_HIT, _COLD_START, _JOIN = CacheResult.HIT, CacheResult.COLD_START, CacheResult.JOIN

SOONEST_READY_S = 0.05  # said of a load that takes longer than expected, or no time: it is not ready, so it is not 0


class Reports:
    """State: which life this is, the number of the last report, the address by which clients reach this worker, and what was said last.

    What has not changed is said by the same values again, which are made and compared sooner. Of the times, `now` is the core's clock and
    `wall_s` seconds since the Unix epoch; `gpu` is the measured utilisation of the devices, 0.0-1.0, None where there are none.
    """

    def __init__(self, core: WorkerCore, *, epoch: int) -> None:
        self.address = ""
        self._core = core
        self.life = Life(epoch)
        self._sequence = 0
        self._statuses: dict[str, tuple[tuple[object, ...], ModelStatus]] = {}
        self._counted: tuple[int, int, int, int, int] | None = None
        self._counts = CacheCounters()

    def next_report(
        self, now: float, wall_s: float, gpu: float | None, *, has_catalogue: bool, outcomes: tuple[DecisionOutcome, ...]
    ) -> WorkerState:
        """The state now, as the next report of this epoch."""
        self._sequence += 1
        return self.state(now, wall_s, gpu, has_catalogue=has_catalogue, outcomes=outcomes)

    def state(
        self,
        now: float,
        wall_s: float,
        gpu: float | None = None,
        *,
        has_catalogue: bool = False,
        outcomes: tuple[DecisionOutcome, ...] = (),
    ) -> WorkerState:
        """The state now, under the number of the last report."""
        core = self._core
        slots, cache = core.slots, core.cache
        return WorkerState(
            node_id=core.node_id,
            models={status.name: status for status in self.resident(now)},
            queue_depth=slots.queue_depth,
            gpu_utilization=slots.busy / slots.slots if gpu is None else min(1.0, max(0.0, gpu)),
            timestamp=wall_s,
            epoch=self.life.epoch,
            sequence=self._sequence,
            address=self.address,
            memory_capacity_bytes=cache.budget_bytes,
            memory_used_bytes=cache.used_bytes,
            slots=slots.slots,
            busy_slots=slots.busy,
            queue_by_priority=slots.depth_by_priority(),
            timings=dict(core.times.timings),
            is_draining=core.is_draining,
            gpu_source=GpuSource.BUSY_SLOTS if gpu is None else GpuSource.NVML,
            catalogue=core.catalogue_models() if has_catalogue else None,
            outcomes=outcomes,
            cache=self._counters(),
        )

    def resident(self, now: float) -> Iterator[ModelStatus]:
        """What a new request would find: ready or coming. A retiring model is neither; it is listed while its next load waits."""
        core = self._core
        cache = core.cache
        waiting_s = 0.0
        for residency in cache.resident:
            if residency.takes_new_requests:
                yield self._status(residency, _READY, 0.0)
            elif residency.stage is _LOADING:
                remaining_s = max(SOONEST_READY_S, residency.load_started_at + core.expected_load_s(residency.name) - now)
                waiting_s = max(waiting_s, remaining_s)
                yield self._status(residency, Phase.LOADING, remaining_s)
        waiting_s += max((core.times.expected_service_s(each.name) for each in cache.resident if each.is_retiring), default=0.0)
        for residency in cache.waiting:
            waiting_s += max(SOONEST_READY_S, core.expected_load_s(residency.name))
            yield self._status(residency, Phase.LOADING, waiting_s)

    def _status(self, residency: Residency, phase: Phase, ready_in_s: float) -> ModelStatus:
        name, slots = residency.name, self._core.slots
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

    def _max_parallel(self, residency: Residency) -> int:
        """The engine's word once it is loaded, the catalogue's before."""
        return residency.max_parallel if residency.stage is _READY_STAGE else self._core.catalogue.get(residency.name).max_parallel

    def _counters(self) -> CacheCounters:
        core = self._core
        lookups = core.outcomes.lookups
        counted = (lookups.get(_HIT, 0), lookups.get(_COLD_START, 0), lookups.get(_JOIN, 0), core.loads, core.evictions)
        if counted != self._counted:
            self._counted, self._counts = counted, CacheCounters(*counted)
        return self._counts
