"""The gossip plane in virtual time: a sidecar beside each worker, each deciding by its own view.

State: the sidecars of the workers that live. Clients ask their own sidecar first and then the next ones. Up to PROTOCOL_NODES the protocol
itself runs; beyond, records travel as `roost.sim.ageing` says, and of the sidecars only the `entries` that clients ask keep a view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import WorkerState
from roost.flow.terms import REACH_TIMEOUT_S
from roost.gossip.core.local_view import NEVER_S
from roost.gossip.protocol.events import Event, MemberChanged
from roost.placement.decider import Decider
from roost.placement.effects import Load
from roost.placement.request import PlacementRequest
from roost.sim.ageing import Ageing
from roost.sim.agenda import Agenda
from roost.sim.deciding import Deciding
from roost.sim.flight import Flight
from roost.sim.gossip_network import GossipNetwork
from roost.sim.links import ReportLink, Reports
from roost.sim.machine import Machine
from roost.sim.planes import Asker
from roost.sim.seeds import rng_for
from roost.sim.sidecars import Known, ProtocolKnown, RumouredKnown, Rumours
from roost.worker.core.outcomes import Outcomes

PROTOCOL_NODES: Final = 50  # of which the protocol costs a few seconds a virtual minute
WARM_S: Final = 8.0  # before time begins: everybody has heard of everybody
PRUNE_S: Final = 1.0

MakeDecider = Callable[[ClusterView, str], Decider]
"""Called with the view and the decider's name."""


@dataclass(slots=True)
class _Sidecar:
    known: Known
    deciding: Deciding


class _Ear:
    """Where one worker's reports go: its sidecar, if that is up."""

    def __init__(self, plane: GossipPlane, number: int) -> None:
        self._plane = plane
        self._number = number

    @property
    def is_up(self) -> bool:
        return self._plane.sidecar(self._number) is not None

    def report(self, state: WorkerState, stream: int) -> None:
        sidecar = self._plane.sidecar(self._number)
        if sidecar is not None:
            sidecar.known.own_report(state, stream)

    def stream_lost(self, node_id: str, epoch: int, stream: int) -> None:
        del epoch, stream
        sidecar = self._plane.sidecar(self._number)
        if sidecar is not None:
            sidecar.known.own_lost(node_id)


def _outcomes_of(machine: Machine, *, is_second: bool) -> Outcomes:
    """Of the life that the machine is in."""
    return machine.further if is_second else machine.outcomes


class GossipPlane:
    """`entries`: how many sidecars clients ask; `is_protocol`: whether the protocol itself runs; `interval_s`: see `GossipNetwork`."""

    name = "gossip"

    def __init__(  # noqa: PLR0913  # as the front door says it
        self,
        agenda: Agenda,
        machines: Sequence[Machine],
        reports: Reports,
        make_decider: MakeDecider,
        *,
        seed: int,
        note: Callable[[str], None],
        entries: int,
        is_protocol: bool,
        is_second: bool = False,
        interval_s: float = 0.0,
    ) -> None:
        self._agenda = agenda
        self._machines = machines
        self._names = [machine.node_id for machine in machines]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._make_decider = make_decider
        self.deciders: list[Decider] = []  # of all sidecars' lives
        self._delay_s = reports.delay_s
        self._note = note
        self._is_protocol = is_protocol
        self._entries = range(len(machines)) if is_protocol else range(entries)
        self._sidecars: list[_Sidecar | None] = [None] * len(machines)
        self._lives = 0
        self._noted: set[tuple[str, str]] = set()
        self._network = GossipNetwork(agenda, self._names, seed, self._heard, interval_s=interval_s)
        self._rumours = Rumours(agenda, Ageing(len(machines)), rng_for(seed, "rumours"))
        self._seeds = rng_for(seed, "seeds of joiners")
        rng = rng_for(seed, "links to sidecars")
        self._links: list[ReportLink] = []
        for machine in machines:
            if is_second:
                machine.also_tell()
            outcomes = partial(_outcomes_of, machine, is_second=is_second)
            self._links.append(ReportLink(machine, _Ear(self, machine.number), reports, agenda, rng, outcomes=outcomes))

    def sidecar(self, number: int) -> _Sidecar | None:
        """None while it is down."""
        return self._sidecars[number]

    def start(self) -> None:
        """The cluster is formed, workers connect, and time begins when all have heard of each other."""
        if self._is_protocol:
            self._network.form()
        for number in range(len(self._machines)):
            self._boot(number)
        self._agenda.run_until(0.0)

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, flight: Flight, request: PlacementRequest, asker: Asker) -> None:
        self._ask_from((flight, request, asker, 0))

    def _ask_from(self, question: tuple[Flight, PlacementRequest, Asker, int]) -> None:
        """Asks the client's own sidecar, or the next that is there; one that lies behind a cut network costs a timeout."""
        flight, request, asker, passed = question
        count = len(self._entries)
        for step in range(passed, count):
            number = (flight.home + step) % count
            sidecar = self._sidecars[number]
            if number in self._cut():
                later = (flight, request, asker, step + 1)
                self._agenda.at(self._agenda.now + REACH_TIMEOUT_S, self._ask_from, later)
                return
            if sidecar is not None:
                sidecar.deciding.ask(flight, request, asker)
                return
        asker.unreachable(flight)

    def _cut(self) -> set[int]:
        return self._network.cut if self._is_protocol else self._rumours.cut

    # --- hearing ----------------------------------------------------------------------------------

    def _heard(self, number: int, event: Event) -> None:
        sidecar = self._sidecars[number]
        if sidecar is None or not isinstance(sidecar.known, ProtocolKnown):
            return
        sidecar.known.happened(event)
        if isinstance(event, MemberChanged):
            self._note_once(event.member.name, event.happening.value)
        if sidecar.deciding.has_waiting:
            sidecar.known.refresh()

    def _have_loaded(self, load: Load) -> None:
        """A sidecar's command to its own worker, or to another by that worker's sidecar."""
        self._agenda.at(self._agenda.now + 2 * self._delay_s, self._preload, load)

    def _preload(self, load: Load) -> None:
        number = self._numbers[load.node_id]
        if number not in self._cut():
            self._machines[number].preload(load.model)

    def _note_once(self, name: str, what: str) -> None:
        """The first sidecar to notice is noted; the others say the same."""
        if self._agenda.now > 0 and (name, what) not in self._noted:
            self._noted.add((name, what))
            self._note(f"a sidecar finds {name} {what}")

    def _tick(self, told: tuple[int, _Sidecar]) -> None:
        number, sidecar = told
        node = self._network.nodes[number]
        if self._sidecars[number] is sidecar and node is not None and isinstance(sidecar.known, ProtocolKnown):
            sidecar.known.local.forget_pruned([peer.name for peer in node.peers()], self._names[number], self._agenda.now)
            self._agenda.at(self._agenda.now + PRUNE_S, self._tick, told)

    # --- falling and rising -----------------------------------------------------------------------

    def _boot(self, number: int) -> None:
        self._lives += 1
        catalogue = self._machines[number].catalogue_models()
        decider = self._make_decider(ClusterView(dead_after_s=NEVER_S, catalogue=catalogue), f"g{self._lives}")
        self.deciders.append(decider)
        deciding = Deciding(self._agenda, decider, load=self._have_loaded)
        known: Known
        if self._is_protocol:
            known = ProtocolKnown(number, deciding.hear, decider.view.entries, self._network, self._agenda)
        else:
            known = RumouredKnown(number, self._names, deciding.hear, self._rumours, self._agenda, is_listening=number in self._entries)
        deciding.refresh = known.refresh
        sidecar = _Sidecar(known, deciding)
        self._sidecars[number] = sidecar
        if self._is_protocol:
            self._agenda.at(self._agenda.now + PRUNE_S, self._tick, (number, sidecar))
            self._network.settle(number)
        self._links[number].connect()

    def worker_crashed(self, number: int) -> None:
        """The sidecar shares the worker's fate."""
        sidecar, self._sidecars[number] = self._sidecars[number], None
        self._links[number].lost()
        if self._is_protocol:
            self._network.crash(number)
        if sidecar is None:
            return
        if isinstance(sidecar.known, RumouredKnown):
            sidecar.known.fall()
            self._rumours.miss([number])
        for flight, asker in sidecar.deciding.fall():
            asker.unreachable(flight)

    def worker_booted(self, number: int) -> None:
        if self._is_protocol:
            others = [other for other, node in enumerate(self._network.nodes) if node is not None]
            seeds = [others[self._seeds.randrange(len(others))] for _ in range(2)] if others else []
            self._network.boot(number, seeds)
        self._boot(number)

    def crash_decider(self) -> None:
        """There is no coordinator."""

    def boot_decider(self) -> None:
        """There is none."""

    def part(self, numbers: frozenset[int]) -> None:
        self._network.cut = self._network.cut | numbers
        self._rumours.cut = self._rumours.cut | numbers
        if not self._is_protocol:
            inside = sorted(numbers)
            outside = [number for number in range(len(self._machines)) if number not in numbers]
            self._rumours.miss(inside, among=outside)
            self._rumours.miss(outside, among=inside)

    def heal(self, numbers: frozenset[int]) -> None:
        self._network.cut = self._network.cut - numbers
        self._rumours.cut = self._rumours.cut - numbers

    def __repr__(self) -> str:
        up = sum(sidecar is not None for sidecar in self._sidecars)
        return f"<GossipPlane {up} of {len(self._sidecars)} sidecars up, {'protocol' if self._is_protocol else 'drawn delays'}>"
