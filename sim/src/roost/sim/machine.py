"""One worker in virtual time: the worker's own cache, slots, learned times, outcomes and reports, with events in place of tasks.

State: what those own, the requests that are here, and the life it is in. It does what `roost.worker.runtime` and `model_host` do, step by
step, without a clock of its own: what they await, the agenda brings back. A machine that is down has none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.errors import RoostError
from roost.cluster.worker_state import CacheResult, CatalogueModel, DecisionOutcome, WorkerState
from roost.sim.agenda import Agenda
from roost.sim.flight import Flight, FlightJob
from roost.sim.work import Work
from roost.worker.core.model_cache import ModelCache
from roost.worker.core.outcomes import Outcomes
from roost.worker.core.residency import Close, Effect, Lease, Refuse, Residency, Stage, StartLoad
from roost.worker.core.slots import Slots
from roost.worker.core.timings import LearnedTimes
from roost.worker.core.victims import CostAware, LeastRecentlyUsed
from roost.worker.gpu import GpuMeter
from roost.worker.report import Clocks, Reporter

WALL_OFFSET_S = 1_000.0  # what happens before a run begins has a date too
UNBOUNDED = 1_000_000_000  # waiting requests: more than any run has
_REFUSED = CacheResult.REFUSED
_HIT = CacheResult.HIT


@dataclass(frozen=True, slots=True)
class Build:
    """What every worker of a run is like. `warm` names the models that are in memory when it begins to live."""

    slots: int
    memory_bytes: int
    queue_capacity: int = UNBOUNDED
    aging_s: float = 10.0
    eviction: str = "lru"
    warm: tuple[str, ...] = ()


class Machine:
    """Mutable. `ended` is called with each request that got all its tokens, `refused` with each that lost its place, and why."""

    def __init__(self, node_id: str, number: int, build: Build, catalogue: Catalogue, work: Work, agenda: Agenda) -> None:
        self.node_id = node_id
        self.number = number
        self.catalogue = catalogue
        self.is_draining = False
        self.is_up = False
        self.lives = 0
        self.loads = 0
        self.evictions = 0
        self.all_loads = 0  # of all its lives
        self.all_evictions = 0
        self.busy_s = 0.0  # slot-seconds of work so far
        self.ended: Callable[[Flight], None] = _nobody
        self.refused: Callable[[Flight, RoostError], None] = _nobody_cares
        self.on_change: list[Callable[[], None]] = []
        self.on_arrival: list[Callable[[], None]] = []  # of a request that found its model ready: all that changed is the load
        self._build = build
        self._work = work
        self._agenda = agenda
        self._clocks = Clocks(monotonic=lambda: agenda.now, wall=lambda: agenda.now + WALL_OFFSET_S)
        self._counted_at = 0.0
        self._tells_further = False
        self.boot()

    def boot(self) -> None:
        """A new life, with nothing in memory but what is warm."""
        self.lives += 1
        self.is_up = True
        build = self._build
        self.times = LearnedTimes()
        self.slots = Slots(build.slots, queue_capacity=build.queue_capacity, aging_s=build.aging_s)
        victims = CostAware(self.expected_load_s) if build.eviction == "cost-aware" else LeastRecentlyUsed()
        self.cache = ModelCache(build.memory_bytes, victims=victims)
        self.outcomes = Outcomes()
        self.further = Outcomes()  # of a second peer, which hears at its own pace
        self.flights: dict[Lease, Flight] = {}
        self._preloads: list[Lease] = []
        self.reporter = Reporter(self, GpuMeter(None), epoch=self.lives, clocks=self._clocks)
        self.reporter.address = f"{self.node_id}:8001"
        self._counted_at = self._agenda.now
        self.loads = self.evictions = 0
        self._work.forget(self)
        for name in build.warm:
            self._warm(self.catalogue.get(name))

    def crash(self) -> Sequence[Flight]:
        """Everything here is lost: the requests that were here, in order of arrival."""
        self.count_busy()
        self.is_up = False
        lost = sorted(self.flights.values(), key=_number)
        self.flights = {}
        for flight in lost:
            flight.machine, flight.due_at = None, -1.0
        return lost

    @property
    def host(self) -> Machine:
        """Who keeps the models: the machine itself (`roost.worker.report.Work`)."""
        return self

    def also_tell(self) -> Outcomes:
        """The outcomes for a second peer, kept from now on."""
        self._tells_further = True
        return self.further

    def expected_load_s(self, name: str) -> float:
        """Measured, else what the engine says."""
        return self.times.expected_load_s(name, self._work.expected_load_s(self.catalogue.get(name)))

    def catalogue_models(self) -> tuple[CatalogueModel, ...]:
        return tuple(replace(spec.to_catalogue_model(), load_time_s=self.expected_load_s(spec.name)) for spec in self.catalogue)

    def state(self) -> WorkerState:
        """What it would say of itself now, without a report's number and outcomes."""
        return self.reporter.state()

    # --- requests ---------------------------------------------------------------------------------

    def arrive(self, flight: Flight) -> None:
        """Takes the request in. Raises what a worker refuses with: NoCapacity, ModelTooLarge, UnknownModel."""
        now = self._agenda.now
        slots = self.slots
        try:
            spec = self.catalogue.get(flight.model)
            if slots.queue_depth >= slots.queue_capacity:
                slots.check_room(self._next_place_s(now))
            acquired = self.cache.acquire(spec.name, spec.size_bytes, now)
        except RoostError:
            self._tell(flight, _REFUSED)
            self._changed()
            raise
        lease = acquired.lease
        job = FlightJob(flight.model, flight.priority, now, acquired.result, lease, flight=flight)
        flight.machine, flight.job = self, job
        self.flights[lease] = flight
        self.outcomes.looked_up(acquired.result)
        self._tell(flight, acquired.result)
        if acquired.effects:
            self._carry_out(acquired.effects)
        self.count_busy()
        if slots.start_at_once(job, now):
            self.cache.start(lease)
            self._work.started(self, flight, lease.residency)
        else:
            slots.admit(job, now, now - flight.arrival_s)
            self._grant()  # others may wait for a model while a slot is free: who comes for one that is ready passes them
        for listener in self.on_arrival if acquired.result is _HIT else self.on_change:
            listener()

    def leave(self, flight: Flight, *, is_ok: bool) -> None:
        """The request is done, or given up: its slot or place and its model are free."""
        now, job = self._agenda.now, flight.job
        if job is None or self.flights.pop(job.lease, None) is None:
            return
        flight.machine, flight.due_at = None, -1.0
        self.count_busy()
        if is_ok and job.granted_at is not None:
            self.times.served(job.model, now - job.granted_at)
        residency = job.lease.residency
        self.slots.leave(job)
        effects = self.cache.release(job.lease, now)
        if job.granted_at is not None:
            self._work.stopped(self, flight, residency)
        if effects:
            self._carry_out(effects)
        self._grant()
        self._changed()

    def finish(self, flight: Flight) -> None:
        """The agenda says that the last token is due."""
        if flight.machine is self and flight.due_at == self._agenda.now:
            self.leave(flight, is_ok=True)
            self.ended(flight)

    def _tell(self, flight: Flight, found: CacheResult) -> None:
        if flight.decision_id:
            outcome = DecisionOutcome(flight.decision_id, found)
            self.outcomes.arrived(outcome)
            if self._tells_further:
                self.further.arrived(outcome)

    def _grant(self) -> None:
        slots = self.slots
        if slots.busy >= slots.slots or not slots.queue_depth:
            return
        now = self._agenda.now
        while (job := slots.next(now)) is not None:
            self.count_busy(-1)
            self.cache.start(job.lease)
            assert isinstance(job, FlightJob)  # noqa: S101  # nothing else is admitted
            assert job.flight is not None  # noqa: S101  # as above
            self._work.started(self, job.flight, job.lease.residency)

    def _next_place_s(self, now: float) -> float:
        if self.slots.busy:
            return self.times.mean_service_s() / self.slots.busy
        loads = [
            residency.load_started_at + self.expected_load_s(residency.name) - now
            for residency in self.cache.resident
            if residency.stage is Stage.LOADING
        ]
        return min(loads, default=self.times.mean_service_s())

    def count_busy(self, not_yet: int = 0) -> None:
        """Brings `busy_s` up to now; `not_yet` corrects for a slot that was taken this moment."""
        now = self._agenda.now
        if self.is_up:
            self.busy_s += (self.slots.busy + not_yet) * (now - self._counted_at)
        self._counted_at = now

    def _changed(self) -> None:
        for listener in self.on_change:
            listener()

    # --- models -----------------------------------------------------------------------------------

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        now = self._agenda.now
        for effect in effects:
            match effect:
                case StartLoad(residency):
                    self._agenda.at(now + self._work.load_s(self.catalogue.get(residency.name)), self._loaded, residency)
                case Close(residency, is_eviction):
                    self.evictions += is_eviction
                    self.all_evictions += is_eviction
                    self._carry_out(self.cache.closed(residency, now))
                case Refuse(leases, error):
                    for flight in sorted((self.flights.pop(lease) for lease in leases if lease in self.flights), key=_number):
                        self._lose(flight, error)

    def preload(self, model: str) -> None:
        """The decider says to load it, with no request for it. Nothing where it cannot."""
        if not self.is_up:
            return
        spec = self.catalogue.get(model)
        try:
            acquired = self.cache.acquire(spec.name, spec.size_bytes, self._agenda.now)
        except RoostError:
            return
        self._preloads.append(acquired.lease)
        self._carry_out(acquired.effects)
        self._let_go()
        self._changed()

    def _let_go(self) -> None:
        """Of those that were only to be loaded, whatever is."""
        ready = [lease for lease in self._preloads if lease.residency.stage not in {Stage.WAITING, Stage.LOADING}]
        self._preloads = [lease for lease in self._preloads if lease not in ready]
        for lease in ready:
            self._carry_out(self.cache.release(lease, self._agenda.now))

    def _loaded(self, residency: Residency) -> None:
        if not self.is_up or residency.stage is not Stage.LOADING:
            return
        now = self._agenda.now
        self.loads += 1
        self.all_loads += 1
        self.times.loaded(residency.name, now - residency.load_started_at)
        effects = self.cache.loaded(residency, self.catalogue.get(residency.name).max_parallel, now)
        if effects:
            self._carry_out(effects)
        if self._preloads:
            self._let_go()
        self._grant()
        self._changed()

    def _lose(self, flight: Flight, error: RoostError) -> None:
        job, flight.machine = flight.job, None
        if job is not None:
            self.slots.leave(job)
        self.refused(flight, error)

    def _warm(self, spec: ModelSpec) -> None:
        acquired = self.cache.acquire(spec.name, spec.size_bytes, self._agenda.now)
        for effect in acquired.effects:
            if isinstance(effect, StartLoad):
                self.cache.loaded(effect.residency, spec.max_parallel, self._agenda.now)
        self.cache.release(acquired.lease, self._agenda.now)

    def __repr__(self) -> str:
        return f"<Machine {self.node_id} life {self.lives}{'' if self.is_up else ' down'} {self.slots!r} {self.cache!r}>"


def _number(flight: Flight) -> int:
    return flight.number


def _nobody(_flight: Flight) -> None:
    raise AssertionError("nobody hears of ended requests")


def _nobody_cares(_flight: Flight, _error: RoostError) -> None:
    raise AssertionError("nobody hears of refused requests")
