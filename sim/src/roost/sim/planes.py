"""Who decides. A plane answers requests by a callback, because some of them wait; `Asker` is who hears the answers."""

from __future__ import annotations

from typing import Protocol

from roost.cluster.errors import RoostError
from roost.placement.decision import Decision
from roost.placement.request import PlacementRequest
from roost.sim.flight import Flight


class Asker(Protocol):
    """Hears what became of a question."""

    def decided(self, flight: Flight, decision: Decision) -> None: ...

    def refused(self, flight: Flight, error: RoostError) -> None: ...

    def unreachable(self, flight: Flight) -> None:
        """Nobody who decides was reached."""


class Plane(Protocol):
    """Where requests are placed."""

    @property
    def name(self) -> str: ...

    def start(self) -> None:
        """Time begins; every worker is up."""

    def ask(self, flight: Flight, request: PlacementRequest, asker: Asker) -> None:
        """Answers `asker`, now or later."""

    def worker_crashed(self, number: int) -> None:
        """A worker and what lives beside it are gone."""

    def worker_booted(self, number: int) -> None:
        """They are back, and know nothing."""

    def crash_decider(self) -> None:
        """The coordinator is gone; nothing where there is none."""

    def boot_decider(self) -> None:
        """It is back, and knows nothing."""

    def part(self, numbers: frozenset[int]) -> None:
        """These workers, and what lives beside them, do not reach the others any more."""

    def heal(self, numbers: frozenset[int]) -> None:
        """They do again."""
