"""The central plane in virtual time: one coordinator, told by every worker.

State: the coordinator's own view, placer and waiting requests (`roost.coordinator.central`, `roost.placement.dispatcher`), or none while it
is down, and the callers of those that wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from roost.cluster.errors import NoWorkers, RoostError
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import WorkerState
from roost.coordinator.central import Central
from roost.placement.dispatcher import Bound, Dispatcher, Waiter
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest
from roost.service.scheduler.waiting import MAX_WAIT_S
from roost.sim.agenda import Agenda
from roost.sim.flight import Flight
from roost.sim.links import Board, ReportLink, Reports
from roost.sim.machine import Machine
from roost.sim.planes import Asker
from roost.sim.seeds import rng_for

TICK_S = 0.5  # how often a coordinator looks for silence
NEVER_S = 1e12


@dataclass(frozen=True, slots=True)
class Knowing:
    """How the coordinator comes to know. `reports` None: from a board renewed every `staleness_s`, 0 for all that is so, always.

    `counts_own`: it counts its own decisions until a report shows them, for `reservation_bound_s` at most.
    """

    reports: Reports | None = None
    staleness_s: float = 0.0
    counts_own: bool = True
    reservation_bound_s: float = 5.0

    @property
    def bound_s(self) -> float:
        if not self.counts_own:
            return 0.0
        return max(self.reservation_bound_s, 2.0 * self.staleness_s)


MakePlacer = Callable[[ClusterView, str, float], Placer]
"""Called with the view, the decider's name and how long reservations last."""


class CentralPlane:
    """One coordinator; `note` is told what happens to it."""

    name = "central"

    def __init__(
        self,
        agenda: Agenda,
        machines: Sequence[Machine],
        knowing: Knowing,
        make_placer: MakePlacer,
        *,
        seed: int,
        note: Callable[[str], None],
    ) -> None:
        self.is_up = False
        self._agenda = agenda
        self._machines = machines
        self._knowing = knowing
        self._make_placer = make_placer
        self._note = note
        self._lives = 0
        self._callers: dict[Waiter, tuple[Flight, Asker]] = {}
        self._rings_at = math.inf
        self._links: list[ReportLink] = []
        self._board: Board | None = None
        if knowing.reports is not None:
            rng = rng_for(seed, "links to the coordinator")
            for machine in machines:
                link = ReportLink(machine, self, knowing.reports, agenda, rng, outcomes=lambda machine=machine: machine.outcomes)  # type: ignore[misc]
                self._links.append(link)

    def start(self) -> None:
        self.boot_decider()

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, flight: Flight, request: PlacementRequest, asker: Asker) -> None:
        if not self.is_up:
            asker.unreachable(flight)
            return
        now = self._agenda.now
        if self._board is not None and self._board.is_fresh:
            self._board.renew()
        try:
            decision = self._dispatcher.place(request, now)
            self._make_copies()
            if decision is None:
                self._wait(flight, request, asker, now)
                return
        except RoostError as error:
            asker.refused(flight, error)
            return
        asker.decided(flight, decision)

    def _wait(self, flight: Flight, request: PlacementRequest, asker: Asker, now: float) -> None:
        """Raises NoCapacity."""
        waiter = self._dispatcher.wait(request, now)
        self._callers[waiter] = (flight, asker)
        self._agenda.at(now + min(request.deadline_s or MAX_WAIT_S, MAX_WAIT_S), self._give_up, waiter)
        self._set_timer()

    def _give_up(self, waiter: Waiter) -> None:
        caller = self._callers.pop(waiter, None)
        if caller is not None and self._dispatcher.take_out(waiter):
            flight, asker = caller
            asker.refused(flight, NoWorkers(f"no worker could take {flight.model} in time"))

    def _make_copies(self) -> None:
        delay_s = 0.0 if self._knowing.reports is None else self._knowing.reports.delay_s
        for node_id, model in self._dispatcher.take_copies():
            machine = next(each for each in self._machines if each.node_id == node_id)
            self._agenda.at(self._agenda.now + delay_s, machine.preload, model)

    def _set_timer(self) -> None:
        at = self._dispatcher.next_timer()
        if at < self._rings_at:
            self._rings_at = at
            self._agenda.at(at, self._ring, at)

    def _ring(self, at: float) -> None:
        if at == self._rings_at:
            self._rings_at = math.inf
            if self.is_up:
                self._bind("", has_opened=False)

    def _bind(self, node_id: str, *, has_opened: bool) -> None:
        self._tell(self._dispatcher.bind(self._agenda.now, node_id, has_opened=has_opened))
        self._make_copies()
        self._set_timer()

    def _tell(self, bound: list[Bound]) -> None:
        for waiter, result in bound:
            caller = self._callers.pop(waiter, None)
            if caller is None:
                continue
            flight, asker = caller
            if isinstance(result, RoostError):
                asker.refused(flight, result)
            else:
                asker.decided(flight, result)

    # --- hearing ----------------------------------------------------------------------------------

    def report(self, state: WorkerState, stream: int) -> None:
        """A worker's report arrived."""
        reported = self._central.report(state, self._agenda.now, is_streamed=True, stream=stream)
        if self._callers and reported.is_accepted:
            self._bind(state.node_id, has_opened=reported.has_opened)

    def stream_lost(self, node_id: str, epoch: int, stream: int) -> None:
        """A worker's stream broke."""
        if self.is_up and self._central.stream_lost(node_id, epoch, self._agenda.now, stream=stream):
            self._note(f"coordinator suspects {node_id}")

    def _somebody_changed(self) -> None:
        """Where all is known at once, those who wait are looked at as soon as anything changes."""
        if self._callers and self._board is not None:
            self._agenda.at(self._agenda.now, self._renew, None)

    def _renew(self, _: None) -> None:
        if self._callers and self._board is not None:
            self._board.renew()

    def _tick(self, life: int) -> None:
        if life != self._lives or not self.is_up:
            return
        for change in self._central.advance(self._agenda.now, expected_interval_s=TICK_S):
            self._note(f"coordinator: {change.node_id} is {change.after.value if change.after else 'forgotten'}")
        self._agenda.at(self._agenda.now + TICK_S, self._tick, life)

    # --- falling and rising -----------------------------------------------------------------------

    def boot_decider(self) -> None:
        if self.is_up:
            return
        self._lives += 1
        is_told = self._knowing.reports is not None
        view = ClusterView() if is_told else ClusterView(dead_after_s=NEVER_S)
        placer = self._make_placer(view, f"c{self._lives}", self._knowing.bound_s)
        self._central = Central(view, placer)
        self._dispatcher = Dispatcher(placer, can_tell=True)
        self.is_up = True
        if is_told:
            self._agenda.at(self._agenda.now + TICK_S, self._tick, self._lives)
            if self._lives == 1:
                for link in self._links:
                    link.connect()
            return
        self._board = Board(self._agenda, self, every_s=self._knowing.staleness_s)
        for machine in self._machines:
            self._board.add(machine)
            if self._board.is_fresh:
                machine.on_change.append(self._somebody_changed)

    def crash_decider(self) -> None:
        if not self.is_up:
            return
        self.is_up = False
        self._rings_at = math.inf
        callers, self._callers = list(self._callers.values()), {}
        for link in self._links:
            link.lost()
        for flight, asker in callers:
            asker.unreachable(flight)

    def worker_crashed(self, number: int) -> None:
        if self._links:
            self._links[number].lost()
        elif self.is_up:
            machine = self._machines[number]
            self._central.stream_lost(machine.node_id, machine.lives, self._agenda.now)

    def worker_booted(self, number: int) -> None:
        if self._links:
            self._links[number].connect()
        elif self._board is not None:
            self._board.show(self._machines[number], has_catalogue=True)

    def part(self, numbers: frozenset[int]) -> None:
        for number in sorted(numbers):
            self._links[number].is_cut = True

    def heal(self, numbers: frozenset[int]) -> None:
        for number in sorted(numbers):
            link = self._links[number]
            link.is_cut = False
            if link.is_open:
                link.lost()  # both sides have given the silent stream up, and dial anew
            else:
                link.connect()

    @property
    def placer(self) -> Placer:
        """The decider of this life."""
        return self._central.placer

    def __repr__(self) -> str:
        return f"<CentralPlane {self._central!r} {len(self._callers)} wait>" if self.is_up else "<CentralPlane down>"
