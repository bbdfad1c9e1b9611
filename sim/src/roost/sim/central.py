"""The central plane in virtual time: one coordinator, told by every worker.

State: the coordinator's decider, or none while it is down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import WorkerState
from roost.placement.decider import Decider
from roost.placement.effects import Changed, Life, Load
from roost.placement.facts import Reported, SilenceJudged, StreamLost
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest
from roost.sim.agenda import Agenda
from roost.sim.deciding import Deciding
from roost.sim.flight import Flight
from roost.sim.links import Board, ReportLink, Reports
from roost.sim.machine import Machine
from roost.sim.planes import Asker
from roost.sim.seeds import rng_for

WARM_S = 1.0  # before time begins: every first report is there
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


MakeDecider = Callable[[ClusterView, str, float], Decider]
"""Called with the view, the decider's name and how long reservations last."""
_WORDS = {Life.SUSPECTED: "suspect", Life.DIED: "dead", Life.FORGOTTEN: "forgotten"}


class CentralPlane:
    """One coordinator; `note` is told what happens to it."""

    name = "central"

    def __init__(
        self,
        agenda: Agenda,
        machines: Sequence[Machine],
        knowing: Knowing,
        make_decider: MakeDecider,
        *,
        seed: int,
        note: Callable[[str], None],
    ) -> None:
        self.is_up = False
        self._agenda = agenda
        self._machines = machines
        self._by_name = {machine.node_id: machine for machine in machines}
        self._knowing = knowing
        self._make_decider = make_decider
        self.deciders: list[Decider] = []  # of all its lives
        self._note = note
        self._lives = 0
        self._links: list[ReportLink] = []
        self._board: Board | None = None
        if knowing.reports is not None:
            rng = rng_for(seed, "links to the coordinator")
            for machine in machines:
                link = ReportLink(machine, self, knowing.reports, agenda, rng, outcomes=lambda machine=machine: machine.outcomes)  # type: ignore[misc]
                self._links.append(link)

    def start(self) -> None:
        """Workers connect, and time begins when their first reports are there."""
        self.boot_decider()
        self._agenda.run_until(0.0)

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, flight: Flight, request: PlacementRequest, asker: Asker) -> None:
        if self.is_up:
            self._deciding.ask(flight, request, asker)
        else:
            asker.unreachable(flight)

    def _refresh(self) -> None:
        if self._board is not None and self._board.is_fresh:
            self._board.renew()

    def _have_loaded(self, load: Load) -> None:
        """The coordinator's command to a worker, which takes as long as a report does."""
        delay_s = 0.0 if self._knowing.reports is None else self._knowing.reports.delay_s
        self._agenda.at(self._agenda.now + delay_s, self._by_name[load.node_id].preload, load.model)

    # --- hearing ----------------------------------------------------------------------------------

    def report(self, state: WorkerState, stream: int) -> None:
        """A worker's report arrived."""
        self._deciding.hear(Reported(state, is_streamed=True, stream=stream), self._agenda.now)

    def stream_lost(self, node_id: str, epoch: int, stream: int) -> None:
        """A worker's stream broke."""
        if self.is_up and self._deciding.hear(StreamLost(node_id, epoch, stream), self._agenda.now):
            self._note(f"coordinator suspects {node_id}")

    def _somebody_changed(self) -> None:
        """Where all is known at once, those who wait are looked at as soon as anything changes."""
        if self.is_up and self._deciding.has_waiting:
            self._agenda.at(self._agenda.now, self._renew, None)

    def _renew(self, _: None) -> None:
        if self.is_up and self._deciding.has_waiting:
            self._refresh()

    def _tick(self, life: int) -> None:
        if life != self._lives or not self.is_up:
            return
        self._deciding.hear(SilenceJudged(TICK_S), self._agenda.now)
        self._agenda.at(self._agenda.now + TICK_S, self._tick, life)

    def _befell(self, changed: Changed) -> None:
        """What silence made the coordinator believe; broken streams are noted where they break."""
        if changed.silent_s:
            self._note(f"coordinator: {changed.node_id} is {_WORDS[changed.life]}")

    # --- falling and rising -----------------------------------------------------------------------

    def boot_decider(self) -> None:
        if self.is_up:
            return
        self._lives += 1
        is_told = self._knowing.reports is not None
        view = ClusterView() if is_told else ClusterView(dead_after_s=NEVER_S)
        decider = self._make_decider(view, f"c{self._lives}", self._knowing.bound_s)
        self.deciders.append(decider)
        self._deciding = Deciding(self._agenda, decider, load=self._have_loaded, changed=self._befell)
        self._deciding.refresh = self._refresh
        self.is_up = True
        if is_told:
            self._agenda.at(self._agenda.now + TICK_S, self._tick, self._lives)
            if self._lives == 1:
                for link in self._links:
                    link.connect()
            return
        later_s = 0.0 if decider.placer.is_patient or self._knowing.staleness_s else self._knowing.bound_s / 2
        self._board = Board(self._agenda, self, every_s=self._knowing.staleness_s, arrivals_later_s=later_s)
        for machine in self._machines:
            self._board.add(machine)
            if self._board.is_fresh:
                machine.on_change.append(self._somebody_changed)

    def crash_decider(self) -> None:
        if not self.is_up:
            return
        self.is_up = False
        for link in self._links:
            link.lost()
        for flight, asker in self._deciding.fall():
            asker.unreachable(flight)

    def worker_crashed(self, number: int) -> None:
        if self._links:
            self._links[number].lost()
        elif self.is_up:
            machine = self._machines[number]
            self._deciding.hear(StreamLost(machine.node_id, machine.lives), self._agenda.now)

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
        return self._deciding.decider.placer

    def __repr__(self) -> str:
        return f"<CentralPlane {self._deciding!r}>" if self.is_up else "<CentralPlane down>"
