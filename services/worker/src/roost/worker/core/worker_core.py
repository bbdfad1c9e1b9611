"""A worker's jobs from arrival to end, and the models that they need. No IO, no clock, no tasks.

State: the model cache, the slots and the queue before them, who holds which lease, what was learned of times, what fails, what became of
decisions, whether the worker drains, and the effects that nobody has taken yet. Invariants: each accepted job is granted, refused or left,
once; whatever a report would tell differently is followed by one `Say`; nothing here is due by time alone, so that there is no timer: facts
bring the time with them. A driver tells facts, takes `effects()` after each, and carries them out in order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.errors import ModelLoadFailed, NoCapacity, RoostError, WorkerDraining
from roost.cluster.worker_state import CacheResult, CatalogueModel, DecisionOutcome
from roost.worker.core.effects import SAY, SAY_LOAD, Effect, Grant, Ready, Refuse
from roost.worker.core.expectations import Expectations
from roost.worker.core.failures import Failures
from roost.worker.core.jobs import Arriving, Holder, Job, Preload
from roost.worker.core.model_cache import ModelCache
from roost.worker.core.outcomes import MAX_DECISION_ID, Outcomes
from roost.worker.core.residency import CacheEffect, Close, Lease, RefuseLeases, Residency, Stage
from roost.worker.core.slots import Slots
from roost.worker.core.statuses import Statuses
from roost.worker.core.timings import LearnedTimes
from roost.worker.core.victims import CostAware, LeastRecentlyUsed

MAX_PRELOADS = 1_024  # orders that wait at once: more than the distinct models that may wait for memory, several for each
PRELOADS_RETRY_S = 1.0
# Members of enums that every request compares with: to name them by their class is slow.
_HIT, _JOIN, _REFUSED = CacheResult.HIT, CacheResult.JOIN, CacheResult.REFUSED


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a worker has. `eviction` is "lru" or "cost-aware"; `aging_s` of waiting count as one priority."""

    memory_bytes: int
    slots: int
    queue_capacity: int
    aging_s: float = 10.0
    eviction: str = "lru"


class WorkerCore:
    """Mutable, one owner. Times are any monotonic clock's seconds; `unmeasured_load_s` is what an engine says of a load never measured."""

    def __init__(self, node_id: str, catalogue: Catalogue, capacity: Capacity, *, unmeasured_load_s: Callable[[ModelSpec], float]) -> None:
        self.node_id = node_id
        self.catalogue = catalogue
        self.is_draining = False
        self.hands_over_at = math.inf
        self.loads = 0  # that ended with a ready model
        self.evictions = 0
        self.times = LearnedTimes()
        self.outcomes = Outcomes()
        self.failures = Failures()
        self.slots = Slots(capacity.slots, queue_capacity=capacity.queue_capacity, aging_s=capacity.aging_s)
        self.expected = Expectations(catalogue, self.times, unmeasured_load_s)
        victims = CostAware(self.expected.load_s) if capacity.eviction == "cost-aware" else LeastRecentlyUsed()
        self.cache = ModelCache(capacity.memory_bytes, victims=victims)
        self.statuses = Statuses(catalogue, self.cache, self.slots, self.expected)
        self._told = [self.outcomes]
        self._holders: dict[Lease, Holder] = {}
        self._preloads: list[Preload] = []
        self._numbers = itertools.count(1)
        self._effects: list[Effect] = []
        self._has_news = False
        self._has_load_news = False

    # --- requests ---------------------------------------------------------------------------------

    def arrive(self, request: Arriving, now: float, *, waited_s: float = 0.0) -> Job:
        """Takes the request in, which has waited so long elsewhere: its model and a place in the queue at once, so that a load starts
        before a slot is free. Raises UnknownModel, WorkerDraining, NoCapacity, ModelTooLarge; its decider is told of that, too.
        """
        slots, cache = self.slots, self.cache
        try:
            spec = self.catalogue.get(request.model)
            self._check_serving()
            if slots.is_full:
                raise slots.full(self._next_place_s(now))
            acquired = cache.acquire(spec.name, spec.memory_bytes, now)
        except RoostError:
            self.turn_away(request.decision_id)
            raise
        found, lease = acquired.result, acquired.lease
        # A request that waited in its scheduler for a load and finds the model ready has hit nothing: it joined that load.
        result = _JOIN if found is _HIT and request.waited_for_load else found
        job = Job(spec.name, request.priority, now, result, lease, next(self._numbers))
        self._holders[lease] = job
        self.outcomes.looked_up(result)
        self._tell(request.decision_id, result)
        if acquired.effects:
            self._take(acquired.effects)
        if slots.start_at_once(job, now):
            cache.start(lease)
            self._effects.append(Grant(job))
        else:
            slots.admit(job, now, waited_s)
            self._grant(now)  # others may wait for a model while a slot is free: who comes for one that is ready passes them
        if found is _HIT:
            self._has_load_news = True
        else:
            self._has_news = True
        return job

    def turn_away(self, decision_id: str) -> None:
        """The request of a decision was refused before it was accepted, here or at the worker's door: its decider takes it back."""
        self._tell(decision_id, _REFUSED)
        self._has_news = True

    def leave(self, holder: Holder, now: float, *, is_ok: bool = False) -> None:
        """A job is done or given up, or an order is: its slot or its place, and its model, are free. Nothing if it has left before.

        What did not complete (`is_ok`) says nothing of how long requests take.
        """
        if self._holders.pop(holder.lease, None) is None:
            return
        if isinstance(holder, Job):
            if is_ok and holder.granted_at is not None:
                self.times.served(holder.model, now - holder.granted_at)
                self.failures.served(holder.model)
            self.slots.leave(holder)
        else:
            self._preloads.remove(holder)
        self._take(self.cache.release(holder.lease, now))
        self._go_on(now)

    # --- orders -----------------------------------------------------------------------------------

    def preload(self, name: str, now: float, *, is_pinned: bool = False) -> Preload:
        """Has a model loaded with no request for it; `Ready` or `Refuse` follows, unless the order leaves before.

        Raises UnknownModel, WorkerDraining, ModelTooLarge, NoCapacity.
        """
        spec = self.catalogue.get(name)
        self._check_serving()
        if len(self._preloads) >= MAX_PRELOADS:
            raise NoCapacity(f"{MAX_PRELOADS} ordered loads are under way", PRELOADS_RETRY_S)
        acquired = self.cache.acquire(spec.name, spec.memory_bytes, now)
        preload = Preload(spec.name, now, acquired.result, acquired.lease, next(self._numbers), is_pinned)
        self._holders[acquired.lease] = preload
        self._preloads.append(preload)
        self._take(acquired.effects)
        self._go_on(now)
        return preload

    def unload(self, name: str, now: float) -> Residency | None:
        """Puts an idle model out, pinned or not: what closes now, None if it was not resident. Raises UnknownModel, ModelInUse.

        A load that is under way for orders alone is stopped, and its orders are refused: no request waits for it.
        """
        name = self.catalogue.get(name).name
        self._stop_orders(name, now)
        unloaded = self.cache.unload(name, now)
        self._take(unloaded.effects)
        self._go_on(now)
        return unloaded.residency

    def call_off(self, name: str, now: float) -> None:
        """Whoever ordered a load has called it off, and left: it stops, unless somebody else waits for the model."""
        self._take(self.cache.stop_load(name, now))
        self._go_on(now)

    def unpin(self, name: str, now: float) -> bool:
        """The model may be evicted again, and stays; orders under way pin it no more. False if it was not pinned. Raises UnknownModel."""
        name = self.catalogue.get(name).name
        orders = [each for each in self._preloads if each.model == name and each.is_pinned]
        for order in orders:
            order.is_pinned = False
        effects = self.cache.unpin(name, now)
        self._take(effects or ())
        self._go_on(now)
        return effects is not None or bool(orders)

    def drain(self, *, resume: bool, until: float = math.inf) -> int:
        """Stops or starts taking requests; returns how many are unfinished. `until`: when those that can go on elsewhere are to leave."""
        self.is_draining = not resume
        self.hands_over_at = math.inf if resume else until
        self._has_news = True
        return self.slots.unfinished

    # --- what became of loads -----------------------------------------------------------------------

    def loaded(self, residency: Residency, max_parallel: int, now: float) -> None:
        """The weights are in memory and run `max_parallel` requests at once. Nothing if the load was to stop meanwhile."""
        if residency.stage is not Stage.LOADING:
            return
        self.loads += 1
        self.times.loaded(residency.name, now - residency.load_started_at)
        self.failures.loaded(residency.name)
        self._take(self.cache.loaded(residency, max_parallel, now))
        self._go_on(now)

    def failed(self, residency: Residency, error: RoostError, now: float) -> None:
        """The load left nothing in memory."""
        self.failures.load_failed(residency.name, error)
        self._take(self.cache.load_failed(residency, error, now))
        self._go_on(now)

    def lost(self, residency: Residency, now: float) -> bool:
        """The weights can no longer be used: who runs on them must leave, who waits waits for another load. False if that was known."""
        effects = self.cache.lost(residency, now)
        self._take(effects)
        self._go_on(now)
        return bool(effects)

    def closed(self, residency: Residency, now: float) -> None:
        """Its memory is free."""
        self._take(self.cache.closed(residency, now))
        self._go_on(now)

    # --- what is asked of it ------------------------------------------------------------------------

    def effects(self) -> Sequence[Effect]:
        """What is to be done, each effect once. A `Say` comes last."""
        taken = self._effects
        if self._has_news or self.failures.is_news:
            taken.append(SAY)
        elif self._has_load_news:
            taken.append(SAY_LOAD)
        elif not taken:
            return ()
        self._has_news = self._has_load_news = self.failures.is_news = False
        self._effects = []
        return taken

    def further_outcomes(self) -> Outcomes:
        """What a second peer is told of arrivals, which it hears of at its own pace."""
        further = Outcomes()
        self._told.append(further)
        return further

    def position(self, request: Arriving, now: float, *, waited_s: float = 0.0) -> int:
        """Waiting jobs that would be served before this request if it arrived now."""
        return self.slots.position(request.priority, now, waited_s)

    def catalogue_models(self) -> tuple[CatalogueModel, ...]:
        """Every entry as deciders need it, with the time its load is expected to take here, ordered by name."""
        return tuple(replace(spec.to_catalogue_model(), load_time_s=self.expected.load_s(spec.name)) for spec in self.catalogue)

    # --- deciding -----------------------------------------------------------------------------------

    def _check_serving(self) -> None:
        if self.is_draining:
            raise WorkerDraining(self.node_id)

    def _tell(self, decision_id: str, found: CacheResult) -> None:
        """Deciders hear, with the next report, what became of the decision. An id that no report may carry is no decider's."""
        if 0 < len(decision_id) <= MAX_DECISION_ID:
            outcome = DecisionOutcome(decision_id, found)
            for outcomes in self._told:
                outcomes.arrived(outcome)

    def _next_place_s(self, now: float) -> float:
        """When a place in the queue is expected to be free: when a slot is, or else the first load."""
        if self.slots.busy:
            return self.times.mean_service_s() / self.slots.busy
        loads = [
            residency.load_started_at + self.expected.load_s(residency.name) - now
            for residency in self.cache.resident
            if residency.stage is Stage.LOADING
        ]
        return min(loads, default=self.times.mean_service_s())

    def _take(self, effects: Iterable[CacheEffect]) -> None:
        for effect in effects:
            if isinstance(effect, RefuseLeases):
                for holder in sorted((self._holders.pop(lease) for lease in effect.leases), key=_number):
                    self._refuse(holder, effect.error)
                continue
            if isinstance(effect, Close):
                self.evictions += effect.is_eviction
            self._effects.append(effect)

    def _stop_orders(self, name: str, now: float) -> None:
        if any(isinstance(holder, Job) and holder.model == name for holder in self._holders.values()):
            return
        for preload in [each for each in self._preloads if each.model == name]:
            del self._holders[preload.lease]
            self._refuse(preload, ModelLoadFailed(name, "it was unloaded while it was being loaded"))
            self._take(self.cache.release(preload.lease, now))

    def _refuse(self, holder: Holder, error: RoostError) -> None:
        if isinstance(holder, Job):
            self.slots.leave(holder)
        else:
            self._preloads.remove(holder)
        self._effects.append(Refuse(holder, error))

    def _go_on(self, now: float) -> None:
        """After whatever may have made models ready, or slots free."""
        if self._preloads:
            self._end_preloads(now)
        self._grant(now)
        self._has_news = True

    def _end_preloads(self, now: float) -> None:
        for preload in [each for each in self._preloads if each.lease.residency.stage is Stage.READY]:
            self._preloads.remove(preload)
            del self._holders[preload.lease]
            if preload.is_pinned:
                self._take(self.cache.pin(preload.lease, now))
            self._effects.append(Ready(preload))
            self._take(self.cache.release(preload.lease, now))

    def _grant(self, now: float) -> None:
        slots = self.slots
        while slots.may_run and (job := slots.next(now)) is not None:
            self.cache.start(job.lease)
            self._effects.append(Grant(job))

    def __repr__(self) -> str:
        return f"<WorkerCore {self.node_id}{' draining' if self.is_draining else ''} {self.slots!r} {self.cache!r}>"


def _number(holder: Holder) -> int:
    return holder.number
