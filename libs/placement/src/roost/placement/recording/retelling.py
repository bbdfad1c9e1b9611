"""A decider made again from a recording's beginning, that is told and asked what the recorded one was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from roost.cluster.errors import RoostError
from roost.cluster.view import ClusterView
from roost.placement.decider import Decider
from roost.placement.dispatcher import Ticket
from roost.placement.recording import events
from roost.placement.recording.journal import answers_of, written
from roost.placement.records import DecisionRecords
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng

MakeRng = Callable[[int], Rng]
"""The chance that comes of a seed: `random.Random`, as the recorded decider had it."""


def decider_of(beginning: events.Beginning, make_rng: MakeRng, *, policy: str = "", records: DecisionRecords | None = None) -> Decider:
    """`policy`: another one than the recorded. Raises InvalidField if there is no such policy (any more)."""
    terms = replace(beginning.terms, policy=policy) if policy else beginning.terms
    view = ClusterView.restored(beginning.state.view)
    decider = Decider(view, terms, rng=make_rng(beginning.seed), records=records)
    decider.go_on(beginning.state, make_rng(beginning.seed))
    return decider


class Told(NamedTuple):
    """One answer of the recorded decider and of the one made again; None: to wait, or none."""

    request_id: str
    recorded: events.Answer | None
    again: events.Answer | None


class Retelling:
    """State: the decider, and the tickets of those who wait, by their numbers."""

    def __init__(self, beginning: events.Beginning, make_rng: MakeRng, *, records: DecisionRecords | None = None) -> None:
        self.decider = decider_of(beginning, make_rng, records=records)
        self._tickets = {ticket.number: ticket for line in beginning.state.lines for ticket in line.tickets}

    def tell(self, event: events.Event) -> list[Told]:
        """The next one: what both answered, in order."""
        match event:
            case events.Heard(fact, now, answers):
                try:
                    self.decider.hear(fact, now)
                except RoostError:  # a full table refuses
                    return []
                return self._compared(answers)
            case events.Asked(request, now, answer):
                return [self._asked(request, now, answer)]
            case events.Previewed(request, now, answer):
                return [Told(request.request_id, answer, self._previewed(request, now))]
            case events.GaveUp(number, now):
                ticket = self._tickets.pop(number, None)
                if ticket is not None:
                    self.decider.give_up(ticket, now)
                return []
            case events.TimerRang(now, answers):
                self.decider.handle_timer(now)
                return self._compared(answers)

    def _asked(self, request: PlacementRequest, now: float, answer: events.Answer | int) -> Told:
        try:
            again = self.decider.ask(request, now)
        except RoostError as refusal:
            return Told(request.request_id, _answer(answer), written(refusal))
        if isinstance(again, Ticket):
            self._tickets[again.number] = again
            return Told(request.request_id, _answer(answer), None)
        return Told(request.request_id, _answer(answer), again)

    def _previewed(self, request: PlacementRequest, now: float) -> events.Answer:
        try:
            return self.decider.preview(request, now)
        except RoostError as refusal:
            return written(refusal)

    def _compared(self, recorded: events.Answers) -> list[Told]:
        again = answers_of(self.decider.effects())
        told: list[Told] = []
        for position in range(max(len(recorded), len(again))):
            number, answer = recorded[position] if position < len(recorded) else (0, None)
            other_number, other = again[position] if position < len(again) else (0, None)
            ticket = self._tickets.pop(number or other_number, None)
            told.append(Told("" if ticket is None else ticket.request.request_id, answer, other if number in (0, other_number) else None))
        return told

    def __repr__(self) -> str:
        return f"<Retelling {self.decider!r}>"


def _answer(answer: events.Answer | int) -> events.Answer | None:
    return None if isinstance(answer, int) else answer
