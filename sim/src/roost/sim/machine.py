"""One worker in virtual time: the worker's own core, with events in place of tasks.

State: the core, the requests that are here, and the life it is in. It tells the core facts and carries out its effects, as `roost.worker`'s
runtime does; what that awaits, the agenda brings back. A machine that is down has none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.errors import ModelLoadFailed, RoostError
from roost.cluster.worker_state import CatalogueModel, DecisionOutcome, WorkerState
from roost.sim.agenda import Agenda
from roost.sim.flight import Flight
from roost.sim.work import Work
from roost.worker.core.effects import Close, Effect, Grant, Ready, Refuse, Say, StartLoad
from roost.worker.core.jobs import Holder
from roost.worker.core.outcomes import Outcomes
from roost.worker.core.reports import Reports
from roost.worker.core.residency import Residency, Stage
from roost.worker.core.slots import Slots
from roost.worker.core.worker_core import Capacity, WorkerCore

WALL_OFFSET_S = 1_000.0  # what happens before a run begins has a date too
UNBOUNDED = 1_000_000_000  # waiting requests: more than any run has


FailsAfter = Callable[[str, float], float | None]
"""After how long a load of that model that begins then fails; None: it does not."""


@dataclass(frozen=True, slots=True)
class Build:
    """What every worker of a run is like. `warm` names the models that are in memory when it begins to live."""

    capacity: Capacity
    warm: tuple[str, ...] = ()


class Machine:
    """Mutable. `ended` is called with each request that got all its tokens, `refused` with each that lost its place, and why."""

    def __init__(self, node_id: str, number: int, build: Build, catalogue: Catalogue, work: Work, agenda: Agenda) -> None:
        self.node_id = node_id
        self.number = number
        self.is_up = False
        self.lives = 0
        self.all_loads = 0  # of all its lives
        self.all_evictions = 0
        self.busy_s = 0.0  # slot-seconds of work so far
        self.failed_loads = 0  # of all its lives
        self.fails_after_s: FailsAfter = _never_fails
        self.ended: Callable[[Flight], None] = _nobody
        self.refused: Callable[[Flight, RoostError], None] = _nobody_cares
        self.on_change: list[Callable[[], None]] = []
        self.on_arrival: list[Callable[[], None]] = []  # of a request that found its model ready: all that changed is the load
        self._build = build
        self._catalogue = catalogue
        self._work = work
        self._agenda = agenda
        self._counted_at = 0.0
        self._tells_further = False
        self.boot()

    def boot(self) -> None:
        """A new life, with nothing in memory but what is warm."""
        self.lives += 1
        self.is_up = True
        core = self.core = WorkerCore(self.node_id, self._catalogue, self._build.capacity, unmeasured_load_s=self._unmeasured_load_s)
        self.further = core.further_outcomes() if self._tells_further else Outcomes()  # of a second peer, which hears at its own pace
        self.flights: dict[Holder, Flight] = {}
        self._reports = Reports(core, epoch=self.lives)
        self._reports.address = f"{self.node_id}:8001"
        self._counted_at = self._agenda.now
        self._work.forget(self)
        self._warm(self._build.warm)

    def crash(self) -> Sequence[Flight]:
        """Everything here is lost: the requests that were here, in order of arrival."""
        self.count_busy()
        self.is_up = False
        lost = sorted(self.flights.values(), key=_number)
        self.flights = {}
        for flight in lost:
            if flight.job is not None and flight.job.granted_at is not None:
                self._work.broke_off(flight)
            flight.machine, flight.due_at = None, -1.0
        return lost

    @property
    def outcomes(self) -> Outcomes:
        """Of this life, for the first peer."""
        return self.core.outcomes

    @property
    def slots(self) -> Slots:
        return self.core.slots

    def also_tell(self) -> Outcomes:
        """The outcomes for a second peer, kept from now on."""
        if not self._tells_further:
            self._tells_further = True
            self.further = self.core.further_outcomes()
        return self.further

    def catalogue_models(self) -> tuple[CatalogueModel, ...]:
        """What it could load, as deciders need it."""
        return self.core.catalogue_models()

    def _unmeasured_load_s(self, spec: ModelSpec) -> float:
        return self._work.expected_load_s(spec)

    def next_report(self, *, has_catalogue: bool, outcomes: tuple[DecisionOutcome, ...], follows: int) -> WorkerState:
        """What it says of itself now, to a reader who had its report `follows` before (0: none)."""
        now = self._agenda.now
        return self._reports.next_report(now, now + WALL_OFFSET_S, None, has_catalogue=has_catalogue, outcomes=outcomes, follows=follows)

    # --- requests ---------------------------------------------------------------------------------

    def arrive(self, flight: Flight) -> None:
        """Takes the request in. Raises what a worker refuses with: NoCapacity, ModelTooLarge, UnknownModel."""
        now = self._agenda.now
        self.count_busy()
        try:
            job = self.core.arrive(flight, now, waited_s=now - flight.arrival_s)
        except RoostError:
            self._carry_out()
            raise
        flight.machine, flight.job = self, job
        self.flights[job] = flight
        self._carry_out()

    def leave(self, flight: Flight, *, is_ok: bool) -> None:
        """The request is done, or given up: its slot or place and its model are free."""
        job = flight.job
        if job is None or self.flights.pop(job, None) is None:
            return
        flight.machine, flight.due_at = None, -1.0
        self.count_busy()
        residency = job.lease.residency
        self.core.leave(job, self._agenda.now, is_ok=is_ok)
        if job.granted_at is not None:
            self._work.stopped(self, flight, residency)
        self._carry_out()

    def finish(self, flight: Flight) -> None:
        """The agenda says that the last token is due."""
        if flight.machine is self and flight.due_at == self._agenda.now:
            self.leave(flight, is_ok=True)
            self.ended(flight)

    def count_busy(self) -> None:
        """Brings `busy_s` up to now; called before each fact that may give or take slots."""
        now = self._agenda.now
        if self.is_up:
            self.busy_s += self.core.slots.busy * (now - self._counted_at)
        self._counted_at = now

    # --- models -----------------------------------------------------------------------------------

    def preload(self, model: str) -> None:
        """The decider says to load it, with no request for it. Nothing where it cannot."""
        if not self.is_up:
            return
        self.count_busy()
        try:
            self.core.preload(model, self._agenda.now)
        except RoostError:
            return
        self._carry_out()

    def _loaded(self, begun: tuple[WorkerCore, Residency]) -> None:
        core, residency = begun
        if not self.is_up or core is not self.core or residency.stage is not Stage.LOADING:
            return  # of an earlier life, or no longer wanted
        self.count_busy()
        self.all_loads += 1
        core.loaded(residency, self._catalogue.get(residency.name).max_parallel, self._agenda.now)
        self._carry_out()

    def _load_failed(self, begun: tuple[WorkerCore, Residency]) -> None:
        core, residency = begun
        if not self.is_up or core is not self.core or residency.stage is not Stage.LOADING:
            return
        self.failed_loads += 1
        self.count_busy()
        core.failed(residency, ModelLoadFailed(residency.name, "its source is broken"), self._agenda.now)
        self._carry_out()

    # --- effects ----------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        """All that the core asks for; weights are freed at once, which may ask for more."""
        while effects := self.core.effects():
            for effect in effects:
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Say(is_load_only):
                for listener in self.on_arrival if is_load_only else self.on_change:
                    listener()
            case Grant(job):
                self._work.started(self, self.flights[job], job.lease.residency)
            case StartLoad(residency):
                fails_after_s, now = self.fails_after_s(residency.name, self._agenda.now), self._agenda.now
                if fails_after_s is not None:
                    self._agenda.at(now + fails_after_s, self._load_failed, (self.core, residency))
                else:
                    self._agenda.at(now + self._work.load_s(self._catalogue.get(residency.name)), self._loaded, (self.core, residency))
            case Close(residency, is_eviction):
                self.all_evictions += is_eviction
                self.core.closed(residency, self._agenda.now)
            case Refuse(holder, error):
                self._lose(holder, error)
            case Ready():
                pass  # who ordered it reads of it in reports

    def _lose(self, holder: Holder, error: RoostError) -> None:
        flight = self.flights.pop(holder, None)
        if flight is not None:
            flight.machine = None
            self.refused(flight, error)

    def _warm(self, names: Sequence[str]) -> None:
        """These are in memory, and nothing was measured or counted."""
        cache, now = self.core.cache, self._agenda.now
        for spec in map(self._catalogue.get, names):
            acquired = cache.acquire(spec.name, spec.memory_bytes, now)
            for effect in acquired.effects:
                if isinstance(effect, StartLoad):
                    cache.loaded(effect.residency, spec.max_parallel, now)
            cache.release(acquired.lease, now)

    def __repr__(self) -> str:
        return f"<Machine {self.node_id} life {self.lives}{'' if self.is_up else ' down'} {self.core!r}>"


def _number(flight: Flight) -> int:
    return flight.number


def _never_fails(_model: str, _now: float) -> None:
    return None


def _nobody(_flight: Flight) -> None:
    raise AssertionError("nobody hears of ended requests")


def _nobody_cares(_flight: Flight, _error: RoostError) -> None:
    raise AssertionError("nobody hears of refused requests")
