"""Who runs next: the worker's slots and the bounded queue before them. Pure.

State: the waiting jobs (a priority queue that raises each by one priority per `aging_s` waited) and how many run. Invariants: at most
`slots` jobs run; a job runs only on a model that is ready and has a place; a job whose model is loading stands in nobody's way.
"""

from __future__ import annotations

from collections import Counter

from roost.cluster.errors import NoCapacity
from roost.placement.queue import PriorityQueue
from roost.worker.core.jobs import Job

SOONEST_RETRY_S = 0.1
LATEST_RETRY_S = 60.0


class Slots:
    """Runs the best job that can run. Times are any monotonic clock's seconds."""

    def __init__(self, slots: int, *, queue_capacity: int, aging_s: float) -> None:
        self.slots = slots
        self.queue_capacity = queue_capacity
        self.busy = 0
        self._queue: PriorityQueue[Job] = PriorityQueue(capacity=queue_capacity, aging_s=aging_s)
        self._queued: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._changed: set[str] = set()

    @property
    def queue_depth(self) -> int:
        return len(self._queue)

    @property
    def unfinished(self) -> int:
        """Jobs that run or wait."""
        return self.busy + len(self._queue)

    def take_changed(self) -> set[str]:
        """The models of whose jobs others run or wait than when this was asked last."""
        changed, self._changed = self._changed, set()
        return changed

    def depth_by_priority(self) -> tuple[int, ...]:
        return self._queue.depth_by_priority()

    def queued(self, model: str) -> int:
        return self._queued.get(model, 0)

    def running(self, model: str) -> int:
        return self._running.get(model, 0)

    def position(self, priority: int, now: float, waited_s: float = 0.0) -> int:
        """Waiting jobs that would be served before a new one of `priority` that has waited so long elsewhere."""
        return self._queue.ahead_of(priority, now, waited_s)

    @property
    def is_full(self) -> bool:
        """No job more may wait."""
        return len(self._queue) >= self.queue_capacity

    @property
    def may_run(self) -> bool:
        """Somebody waits, and a slot is free."""
        return self.busy < self.slots and len(self._queue) > 0

    def full(self, expected_s: float) -> NoCapacity:
        """What to say while it `is_full`; `expected_s` is when a place in the queue is expected to be free."""
        retry_s = min(LATEST_RETRY_S, max(SOONEST_RETRY_S, expected_s))
        return NoCapacity(f"the queue is full: {self.queue_capacity} requests wait for {self.slots} slots", retry_s)

    def ahead(self, job: Job, now: float) -> int:
        """Waiting jobs that would be served before this one if all could run; 0 for one that does not wait."""
        return 0 if job.ticket is None else self._queue.place(job.ticket, now)

    def admit(self, job: Job, now: float, waited_s: float = 0.0) -> None:
        """The job waits, and has waited so long elsewhere. Raises NoCapacity when the queue is full: ask `is_full` first."""
        job.ticket = self._queue.push(job, job.priority, now, waited_s)
        self._queued[job.model] += 1
        self._changed.add(job.model)

    def start_at_once(self, job: Job, now: float) -> bool:
        """The job runs without waiting, if nothing waits and it can: what `admit` and `next` would do. The caller starts its lease."""
        if self.busy >= self.slots or len(self._queue) or not job.lease.residency.can_run:
            return False
        self._run(job, now)
        return True

    def next(self, now: float) -> Job | None:
        """The best job that can run now; the caller starts its lease. None if there is none or no slot is free."""
        if self.busy >= self.slots:
            return None
        job = self._queue.pop(now, ready=_can_run)
        if job is None:
            return None
        job.ticket = None
        _less(self._queued, job.model)
        self._run(job, now)
        return job

    def _run(self, job: Job, now: float) -> None:
        job.granted_at = now
        self.busy += 1
        self._running[job.model] += 1
        self._changed.add(job.model)

    def leave(self, job: Job) -> None:
        """The job has ended, or was given up wherever it was. Once a job."""
        self._changed.add(job.model)
        if job.granted_at is not None:
            self.busy -= 1
            _less(self._running, job.model)
        elif job.ticket is not None and self._queue.remove(job.ticket):
            job.ticket = None
            _less(self._queued, job.model)

    def __repr__(self) -> str:
        return f"<Slots {self.busy}/{self.slots} busy, {len(self._queue)}/{self.queue_capacity} waiting>"


def _can_run(job: Job) -> bool:
    return job.lease.residency.can_run


def _less(counter: Counter[str], name: str) -> None:
    """One less; a name at zero is forgotten, so that the counter is bounded by what is alive."""
    counter[name] -= 1
    if not counter[name]:
        del counter[name]
