"""One life of a decider in virtual time: told, asked and woken by the agenda, which brings its answers to those who asked.

State: the callers of waiting requests, and when the agenda wakes it next. All rules are the decider's own (`roost.placement.decider`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from roost.cluster.errors import RoostError
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered, Changed, Effect, Load
from roost.placement.facts import Fact
from roost.placement.request import PlacementRequest
from roost.sim.agenda import Agenda
from roost.sim.flight import Flight
from roost.sim.planes import Asker


def _nobody(_effect: object) -> None:
    """Does nothing."""


class Deciding:
    """`load` has a worker load a model, `changed` is told what befell one. `refresh` is called before each look at the view."""

    def __init__(
        self, agenda: Agenda, decider: Decider, *, load: Callable[[Load], None], changed: Callable[[Changed], None] = _nobody
    ) -> None:
        self.is_up = True
        self.decider = decider
        self.refresh: Callable[[], None] = lambda: None
        self._agenda = agenda
        self._load = load
        self._changed = changed
        self._callers: dict[Ticket, tuple[Flight, Asker]] = {}
        self._wakes_at = math.inf

    @property
    def has_waiting(self) -> bool:
        return bool(self._callers)

    def ask(self, flight: Flight, request: PlacementRequest, asker: Asker) -> None:
        """Decides, or lets the request wait."""
        flight.waited_for_load = False
        self.refresh()
        try:
            answer = self.decider.ask(request, self._agenda.now)
        except RoostError as error:
            asker.refused(flight, error)
            return
        if isinstance(answer, Ticket):
            self._callers[answer] = (flight, asker)
            self._carry_out()
        else:
            asker.decided(flight, answer)

    def hear(self, fact: Fact, now: float) -> bool:
        """Something happened. False if that changed nothing."""
        is_new = self.decider.hear(fact, now)
        self._carry_out()
        return is_new

    def fall(self) -> list[tuple[Flight, Asker]]:
        """The process is gone: those who waited."""
        self.is_up = False
        callers, self._callers = list(self._callers.values()), {}
        return callers

    def _carry_out(self) -> None:
        for effect in self.decider.effects():
            self._do(effect)
        if self._callers:
            at = self.decider.next_timer()
            if at is not None and at < self._wakes_at:
                self._wakes_at = at
                self._agenda.at(at, self._wake, at)

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Answered):
            caller = self._callers.pop(effect.ticket, None)
            if caller is not None:
                self._tell(*caller, effect.result)
        elif isinstance(effect, Load):
            self._load(effect)
        else:
            self._changed(effect)

    def _tell(self, flight: Flight, asker: Asker, result: Decision | RoostError) -> None:
        if isinstance(result, RoostError):
            asker.refused(flight, result)
        else:
            flight.waited_for_load = result.waited_for_load
            asker.decided(flight, result)

    def _wake(self, at: float) -> None:
        if at == self._wakes_at and self.is_up:
            self._wakes_at = math.inf
            self.refresh()
            self.decider.handle_timer(self._agenda.now)
            self._carry_out()

    def __repr__(self) -> str:
        return f"<Deciding {self.decider!r}, {len(self._callers)} wait>"
