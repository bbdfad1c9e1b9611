"""Taps: who counts, logs, records or tells what a decider is told and asked, and what comes of it. They change none of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from roost.cluster.errors import RoostError
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Effect
from roost.placement.facts import Fact
from roost.placement.request import PlacementRequest


class Tap(Protocol):
    """Each method is called right after what it tells of, at the decider's time. One that is not overridden is never called."""

    def heard(self, fact: Fact, now: float, effects: Sequence[Effect]) -> None:
        """A fact, and what is to be done because of it."""
        del fact, now, effects

    def asked(self, request: PlacementRequest, now: float, answer: Decision | Ticket | RoostError, elapsed_s: float) -> None:
        """A question, its answer, and how long that took to find."""
        del request, now, answer, elapsed_s

    def previewed(self, request: PlacementRequest, now: float, answer: Decision | RoostError) -> None:
        """It was asked for where the request would go, and what the answer was; nothing else came of it."""
        del request, now, answer

    def gave_up(self, ticket: Ticket, now: float) -> None:
        """Who held the ticket does not wait any more."""
        del ticket, now

    def rang(self, now: float, effects: Sequence[Effect]) -> None:
        """The decider's own time came, and what is to be done because of it."""
        del now, effects


def calls(taps: Sequence[object], name: str) -> list[object]:
    """The methods of that name, of those that have one of their own."""
    found = [(tap, getattr(type(tap), name, None)) for tap in taps]
    return [getattr(tap, name) for tap, method in found if method is not None and method is not getattr(Tap, name)]
