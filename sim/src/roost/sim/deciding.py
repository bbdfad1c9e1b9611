"""One decider and those who wait in it: the placer, the dispatcher, and the callers of waiting requests.

State: the callers, and when the dispatcher wants to be asked again. It does what `roost.service.scheduler.plane` does, with events in place
of tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from roost.cluster.errors import NoWorkers, RoostError
from roost.placement.decision import Action
from roost.placement.dispatcher import Bound, Copy, Dispatcher, Waiter
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest
from roost.service.scheduler.waiting import MAX_WAIT_S
from roost.sim.agenda import Agenda
from roost.sim.flight import Flight
from roost.sim.planes import Asker


class Decider:
    """One life of it. `refresh` is called before each look at the view; `tell`, if there is one, has a worker load a model."""

    def __init__(self, agenda: Agenda, placer: Placer, refresh: Callable[[], None], tell: Callable[[Copy], None] | None = None) -> None:
        self.is_up = True
        self.placer = placer
        self._agenda = agenda
        self._refresh = refresh
        self._tell_worker = tell
        self._dispatcher = Dispatcher(placer, can_tell=tell is not None)
        self._callers: dict[Waiter, tuple[Flight, Asker]] = {}
        self._rings_at = math.inf

    @property
    def has_waiting(self) -> bool:
        return bool(self._callers)

    def ask(self, flight: Flight, request: PlacementRequest, asker: Asker) -> None:
        """Decides, or lets the request wait."""
        now = self._agenda.now
        flight.waited_for_load = False
        self._refresh()
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

    def heard_of(self, node_id: str, *, has_opened: bool) -> None:
        """A worker may have room for those who wait."""
        if self._callers and self.is_up:
            self._refresh()
            self._tell(self._dispatcher.bind(self._agenda.now, node_id, has_opened=has_opened))
            self._make_copies()
            self._set_timer()

    def fall(self) -> list[tuple[Flight, Asker]]:
        """The process is gone: those who waited."""
        self.is_up = False
        callers, self._callers = list(self._callers.values()), {}
        return callers

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
        if self._tell_worker is not None:
            for copy in self._dispatcher.take_copies():
                self._tell_worker(copy)

    def _set_timer(self) -> None:
        at = self._dispatcher.next_timer()
        if at < self._rings_at:
            self._rings_at = at
            self._agenda.at(at, self._ring, at)

    def _ring(self, at: float) -> None:
        if at == self._rings_at:
            self._rings_at = math.inf
            self.heard_of("", has_opened=False)

    def _tell(self, bound: list[Bound]) -> None:
        for waiter, result in bound:
            caller = self._callers.pop(waiter, None)
            if caller is None:
                continue
            flight, asker = caller
            if isinstance(result, RoostError):
                asker.refused(flight, result)
            else:
                flight.waited_for_load = result.action is Action.SERVE and not waiter.found_ready
                asker.decided(flight, result)

    def __repr__(self) -> str:
        return f"<Decider {self.placer!r}, {len(self._callers)} wait>"
