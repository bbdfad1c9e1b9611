"""What the worker says of itself: one WorkerState, made from everything that the core owns."""

from __future__ import annotations

from collections.abc import Mapping

from roost.cluster.worker_state import (
    CacheCounters,
    CacheResult,
    Changes,
    DecisionOutcome,
    GpuSource,
    ModelStatus,
    ModelTiming,
    WorkerState,
)
from roost.worker.core.life import Life
from roost.worker.core.worker_core import WorkerCore

MAX_FOLLOWED = 64  # reports that a later one may follow; peers are sent a few in turn, so that each one's last is among them
# Members of enums that every report names: to look them up by their class is slow.
_HIT, _COLD_START, _JOIN = CacheResult.HIT, CacheResult.COLD_START, CacheResult.JOIN


class Reports:
    """State: which life this is, the address by which clients reach this worker, the number of the last report, and for each of the last
    ones what was known by then.

    What has not changed is said by the same values again, and a report tells what differs from the one that its reader had before. Of the
    times, `now` is the core's clock and `wall_s` seconds since the Unix epoch; `gpu` is the measured utilisation of the devices, 0.0-1.0,
    None where there are none.
    """

    def __init__(self, core: WorkerCore, *, epoch: int) -> None:
        self.address = ""
        self._core = core
        self.life = Life(epoch)
        self._sequence = 0
        self._versions: dict[int, tuple[int, int]] = {}  # of the statuses and the times, by report
        self._counted: tuple[int, int, int, int, int] | None = None
        self._counts = CacheCounters()

    def next_report(
        self,
        now: float,
        wall_s: float,
        gpu: float | None,
        *,
        has_catalogue: bool,
        outcomes: tuple[DecisionOutcome, ...],
        follows: int = 0,
    ) -> WorkerState:
        """The state now, as the next report of this epoch, for a reader who had the report `follows` before (0: none)."""
        self._sequence += 1
        state = self.state(now, wall_s, gpu, has_catalogue=has_catalogue, outcomes=outcomes, follows=follows)
        versions = self._versions
        versions[self._sequence] = (self._core.statuses.log.version, self._core.times.log.version)
        if len(versions) > MAX_FOLLOWED:
            del versions[next(iter(versions))]
        return state

    def state(
        self,
        now: float,
        wall_s: float,
        gpu: float | None = None,
        *,
        has_catalogue: bool = False,
        outcomes: tuple[DecisionOutcome, ...] = (),
        follows: int = 0,
    ) -> WorkerState:
        """The state now, under the number of the last report."""
        core = self._core
        slots, cache = core.slots, core.cache
        models, timings = core.statuses.refresh(now), core.times.timings
        return WorkerState(
            node_id=core.node_id,
            models=models,
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
            timings=timings,
            is_draining=core.is_draining,
            gpu_source=GpuSource.BUSY_SLOTS if gpu is None else GpuSource.NVML,
            catalogue=core.catalogue_models() if has_catalogue else None,
            outcomes=outcomes,
            cache=self._counters(),
            failing=core.failures.told,
            changes=self._changes(follows, models, timings),
        )

    def _changes(self, follows: int, models: Mapping[str, ModelStatus], timings: Mapping[str, ModelTiming]) -> Changes | None:
        versions = self._versions.get(follows)
        if versions is None:
            return None
        statuses = self._core.statuses
        changed, measured = statuses.log.since(versions[0]), self._core.times.log.since(versions[1])
        if changed is None or measured is None:
            return None
        return Changes(follows, changed, measured, models, timings, statuses.pinned_bytes)

    def _counters(self) -> CacheCounters:
        core = self._core
        lookups = core.outcomes.lookups
        counted = (lookups.get(_HIT, 0), lookups.get(_COLD_START, 0), lookups.get(_JOIN, 0), core.loads, core.evictions)
        if counted != self._counted:
            self._counted, self._counts = counted, CacheCounters(*counted)
        return self._counts
