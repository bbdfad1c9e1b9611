"""Both planes at once: clients ask the coordinator while it is up, and the sidecars when it is not. Workers report to both."""

from __future__ import annotations

from roost.placement.request import PlacementRequest
from roost.sim.central import CentralPlane
from roost.sim.flight import Flight
from roost.sim.gossip import GossipPlane
from roost.sim.planes import Asker


class HybridPlane:
    """The coordinator first in every client's list of targets, then its sidecars."""

    name = "hybrid"

    def __init__(self, central: CentralPlane, gossip: GossipPlane) -> None:
        self._central = central
        self._gossip = gossip

    def start(self) -> None:
        self._central.boot_decider()
        self._gossip.start()

    def ask(self, flight: Flight, request: PlacementRequest, asker: Asker) -> None:
        (self._central if self._central.is_up else self._gossip).ask(flight, request, asker)

    def worker_crashed(self, number: int) -> None:
        self._central.worker_crashed(number)
        self._gossip.worker_crashed(number)

    def worker_booted(self, number: int) -> None:
        self._central.worker_booted(number)
        self._gossip.worker_booted(number)

    def crash_decider(self) -> None:
        self._central.crash_decider()

    def boot_decider(self) -> None:
        self._central.boot_decider()

    def part(self, numbers: frozenset[int]) -> None:
        self._central.part(numbers)
        self._gossip.part(numbers)

    def heal(self, numbers: frozenset[int]) -> None:
        self._central.heal(numbers)
        self._gossip.heal(numbers)

    def __repr__(self) -> str:
        return f"<HybridPlane {self._central!r} {self._gossip!r}>"
