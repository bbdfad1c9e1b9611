"""The values a `ClusterView` is made of and answers with, and when one report replaces another."""

from __future__ import annotations

from dataclasses import dataclass, field

from roost.cluster.known_models import SharedCatalogue
from roost.cluster.worker_state import CacheCounters, Liveness, WorkerState

NO_COUNTS = CacheCounters()
_LIVE = Liveness.LIVE  # to look it up by its class takes a part of the time of a report


@dataclass(frozen=True, slots=True)
class WorkerEntry:
    """One worker as known: its last accepted report, when it was received, and what reports do not repeat.

    `stream` numbers the stream it came on (0: not numbered). `catalogue` is the last one sent in this epoch, None if none was.
    """

    state: WorkerState
    liveness: Liveness
    received_at: float
    is_streamed: bool
    stream: int = 0
    catalogue: SharedCatalogue | None = None
    earlier_epochs: CacheCounters = NO_COUNTS

    @property
    def node_id(self) -> str:
        return self.state.node_id

    @property
    def is_available(self) -> bool:
        """True if new work may be sent there."""
        return self.liveness is _LIVE and not self.state.is_draining

    @property
    def counters(self) -> CacheCounters:
        """Cache counts over all epochs of this worker that were seen."""
        return _sum(self.earlier_epochs, self.state.cache or NO_COUNTS)

    def age_s(self, now: float) -> float:
        """Seconds since its last accepted report."""
        return max(0.0, now - self.received_at)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a report did. `is_new_epoch` also marks the first report of a worker that was not known."""

    is_accepted: bool
    is_new_epoch: bool
    became_live: bool
    entry: WorkerEntry


@dataclass(frozen=True, slots=True)
class LivenessChange:
    """A worker changed its liveness by silence. `after` is None if it was forgotten."""

    node_id: str
    before: Liveness
    after: Liveness | None
    silent_s: float


@dataclass(frozen=True, slots=True)
class ClusterTotals:
    """Sums over the live workers; `active_workers` are those that may get new work."""

    active_workers: int
    average_gpu_utilization: float
    total_queue_depth: int


@dataclass(slots=True)
class Residency:
    """node_ids of the live workers where one model is ready or loading, ordered."""

    ready_on: list[str] = field(default_factory=list)
    loading_on: list[str] = field(default_factory=list)


def fits(size_bytes: int, capacity_bytes: int) -> bool:
    """True if a model of this size may be held in this memory; 0 means not known, and then it may."""
    return size_bytes <= capacity_bytes or size_bytes == 0 or capacity_bytes == 0


def room_bytes(state: WorkerState) -> int:
    """The memory that a model which is not there yet can ever get: all but what is pinned; 1 if that is nothing, 0 if it is not known."""
    capacity = state.memory_capacity_bytes
    if not capacity:
        return 0
    pinned = state.pinned_bytes
    return max(1, capacity - pinned) if pinned else capacity


def is_newer(state: WorkerState, known: WorkerEntry, stream: int) -> bool:
    """Epoch, then sequence; 0 is not tracked and always new. `stream` numbers the stream it came on, 0 for none.

    A machine whose clock was set back restarts with an older epoch. That is believed once the life known so far is dead, for nothing
    delayed arrives that late; and as soon as that life is not live, if it comes on a stream opened since: somebody alive opened it.
    """
    if state.epoch == 0 or known.state.epoch == 0:
        return True
    if state.epoch != known.state.epoch:
        is_over = known.liveness is Liveness.DEAD or (known.liveness is not _LIVE and stream > known.stream)
        return state.epoch > known.state.epoch or is_over
    return state.sequence == 0 or state.sequence > known.state.sequence


def is_later_life(before: WorkerState, after: WorkerState) -> bool:
    """True if the worker was restarted between the two. A report that does not track epochs tells nothing about it."""
    return before.epoch not in (0, after.epoch) and after.epoch != 0


def looks_different(before: WorkerEntry, after: WorkerEntry) -> bool:
    """True if an operator would see it: not for a report that only repeats the last one."""
    old, new = before.state, after.state
    return (
        before.liveness is not after.liveness
        or old.queue_depth != new.queue_depth
        or old.gpu_utilization != new.gpu_utilization
        or old.busy_slots != new.busy_slots
        or old.memory_used_bytes != new.memory_used_bytes
        or old.is_draining != new.is_draining
        or old.epoch != new.epoch
        or before.catalogue is not after.catalogue
        or (old.slots, old.address, old.memory_capacity_bytes, old.gpu_source, old.cache, old.queue_by_priority)
        != (new.slots, new.address, new.memory_capacity_bytes, new.gpu_source, new.cache, new.queue_by_priority)
        or old.failing != new.failing
        or _tells_otherwise(old, new)
    )


def _tells_otherwise(old: WorkerState, new: WorkerState) -> bool:
    """Of models and times."""
    said = new.changes_from(old)
    if said is None:
        return old.models != new.models or old.timings != new.timings
    was, now, took, takes = old.models, new.models, old.timings, new.timings
    return any(was.get(name) != now.get(name) for name in said.changed_models) or any(
        took.get(name) != takes.get(name) for name in said.changed_timings
    )


def earlier_epochs(before: WorkerEntry | None, *, is_new_epoch: bool) -> CacheCounters:
    if before is None:
        return NO_COUNTS
    return before.counters if is_new_epoch else before.earlier_epochs


def _sum(one: CacheCounters, other: CacheCounters) -> CacheCounters:
    return CacheCounters(
        hits=one.hits + other.hits,
        cold_starts=one.cold_starts + other.cold_starts,
        joins=one.joins + other.joins,
        loads=one.loads + other.loads,
        evictions=one.evictions + other.evictions,
    )
