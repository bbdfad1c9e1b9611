"""The plane that a simulation asks for, made of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from roost.cluster.view import ClusterView
from roost.gossip.core.local_view import sidecar_terms
from roost.placement.decider import Decider
from roost.placement.terms import Terms
from roost.sim.agenda import Agenda
from roost.sim.central import CentralPlane, Knowing
from roost.sim.faults import Fault
from roost.sim.gossip import PROTOCOL_NODES, GossipPlane
from roost.sim.hybrid import HybridPlane
from roost.sim.links import Reports
from roost.sim.machine import Machine
from roost.sim.planes import Plane
from roost.sim.policies import policy_named
from roost.sim.seeds import rng_for

ENTRIES = 16  # sidecars that clients ask where delays are drawn


class Deciders:
    """Makes deciders; each has its own source of chance. Raises InvalidField if there is no such policy."""

    def __init__(self, policy: str, seed: int) -> None:
        self.policy = policy
        self.seed = seed
        self._make_policy = policy_named(policy)

    def coordinator(self, view: ClusterView, name: str, reservation_bound_s: float) -> Decider:
        return self._of(view, Terms(name, self.policy, can_tell=True, reservation_bound_s=reservation_bound_s))

    def sidecar(self, view: ClusterView, name: str) -> Decider:
        return self._of(view, sidecar_terms(name, self.policy))

    def _of(self, view: ClusterView, terms: Terms) -> Decider:
        return Decider(view, terms, rng=rng_for(self.seed, f"placer {terms.decider}"), make_policy=self._make_policy)


@dataclass(frozen=True, slots=True)
class GossipSetting:
    """`entries`: how many sidecars clients ask, 0 for all of them, or ENTRIES where delays are drawn. `model`: "protocol", "drawn", or
    "auto", which is the protocol up to PROTOCOL_NODES workers. `interval_s`: 0 for the protocol's own.
    """

    entries: int
    model: str
    interval_s: float

    def is_protocol(self, workers: int) -> bool:
        return workers <= PROTOCOL_NODES if self.model == "auto" else self.model == "protocol"

    def entries_of(self, workers: int) -> int:
        return self.entries or (workers if self.is_protocol(workers) else min(workers, ENTRIES))


@dataclass(frozen=True, slots=True)
class PlaneParts:
    """What any plane is made of; `note` is told what happens to it."""

    agenda: Agenda
    machines: Sequence[Machine]
    knowing: Knowing
    deciders: Deciders
    note: Callable[[str], None]

    def plane(self, name: str, gossip: GossipSetting) -> Plane:
        """Central, gossip or hybrid."""
        if name == "central":
            return self._central()
        if name == "hybrid":
            return HybridPlane(self._central(), self._gossip(gossip, is_second=True))
        return self._gossip(gossip, is_second=False)

    def _central(self) -> CentralPlane:
        return CentralPlane(self.agenda, self.machines, self.knowing, self.deciders.coordinator, seed=self.deciders.seed, note=self.note)

    def _gossip(self, setting: GossipSetting, *, is_second: bool) -> GossipPlane:
        workers = len(self.machines)
        return GossipPlane(
            self.agenda,
            self.machines,
            self.knowing.reports or Reports(),
            self.deciders.sidecar,
            seed=self.deciders.seed,
            note=self.note,
            entries=setting.entries_of(workers),
            is_protocol=setting.is_protocol(workers),
            is_second=is_second,
            interval_s=setting.interval_s,
        )


def knowing(plane: str, faults: Sequence[Fault], reports: Reports | None, staleness_s: float, *, counts_own: bool) -> Knowing:
    """How deciders come to know: by reports wherever something can fall or news travels. Raises ValueError."""
    if reports is not None and staleness_s:
        raise ValueError("give either staleness_s (a board) or reports")
    if reports is None and (plane != "central" or faults):
        if staleness_s:
            raise ValueError("a board (staleness_s) belongs to the central plane without faults; give reports=Reports(...) instead")
        reports = Reports()
    return Knowing(reports, staleness_s, counts_own)
