"""Writes down what a decider is told and asked, and what it answers: a tap on what goes in and comes out.

State: the decider, and where it is written to. A file begins with a snapshot from which the decider itself goes on, too
(`Decider.go_on`): so whoever reads it needs nothing that the snapshot leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from roost.cluster.errors import RoostError
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered, Effect
from roost.placement.facts import Fact
from roost.placement.recording.events import Answer, Answers, Asked, Beginning, Event, GaveUp, Heard, Origin, Previewed, Refusal, TimerRang
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng

Sink = Callable[[Beginning | Event], bool]
"""Takes what is to be written, in order. True: the recording should begin anew now, in another file."""
FreshChance = Callable[[], tuple[int, Rng]]
"""A seed that nobody has used, and the chance that comes of it."""


class Journal:
    """Told of everything, in its order, right after it happened. `wall_offset_s`: wall clock minus the decider's clock."""

    def __init__(self, decider: Decider, sink: Sink, fresh_chance: FreshChance, *, plane: str, wall_offset_s: float) -> None:
        self._decider = decider
        self._sink = sink
        self._fresh_chance = fresh_chance
        self._origin = Origin(plane, 0 if decider.records is None else decider.records.capacity, wall_offset_s)
        self.begin()

    def heard(self, fact: Fact, now: float, effects: Iterable[Effect]) -> None:
        self._put(Heard(fact, now, answers_of(effects)))

    def asked(self, request: PlacementRequest, now: float, answer: Decision | Ticket | RoostError) -> None:
        self._put(Asked(request, now, answer.number if isinstance(answer, Ticket) else written(answer)))

    def previewed(self, request: PlacementRequest, now: float, answer: Decision | RoostError) -> None:
        self._put(Previewed(request, now, written(answer)))

    def gave_up(self, ticket: Ticket, now: float) -> None:
        self._put(GaveUp(ticket.number, now))

    def rang(self, now: float, effects: Iterable[Effect]) -> None:
        self._put(TimerRang(now, answers_of(effects)))

    def begin(self) -> None:
        """A file begins, and the decider goes on from what it says."""
        seed, rng = self._fresh_chance()
        snapshot = self._decider.snapshot()
        self._decider.go_on(snapshot, rng)
        self._sink(Beginning(self._decider.terms, self._origin, seed, snapshot))

    def _put(self, event: Event) -> None:
        if self._sink(event):
            self.begin()


def answers_of(effects: Iterable[Effect]) -> Answers:
    """The tickets among them."""
    return tuple([(each.ticket.number, written(each.result)) for each in effects if isinstance(each, Answered)])


def written(answer: Decision | RoostError) -> Answer:
    """As it is written down."""
    return Refusal.of(answer) if isinstance(answer, RoostError) else answer
