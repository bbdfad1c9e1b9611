"""Drives a decider by the event loop's clock, in both planes: tells it, asks it, wakes it, and does what it wants done.

State: the future that each waiting caller waits for, one timer, and the watchers who wait for a change. Invariants: whatever goes in or
comes out passes the taps, in its order; the timer is set whenever the decider has a time; a caller that goes away gives its ticket up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import cast

from roost.cluster.errors import RoostError
from roost.cluster.view import ClusterView
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered, Effect, Load
from roost.placement.facts import Fact
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest
from roost.service.scheduler.taps import Tap, calls
from roost.service.scheduler.watching import Changes

Clock = Callable[[], float]
"""Monotonic seconds."""


class DeciderShell:
    """Must be used from one event loop. `load` has a worker load a model; it may be None where the terms say that nobody can be told.

    `refresh` is called with the time before each look at the view, where bringing it up to date was put off until somebody looks.
    """

    def __init__(self, decider: Decider, *, clock: Clock, taps: Sequence[Tap] = (), load: Callable[[Load], None] | None = None) -> None:
        self.decider = decider
        self.changes = Changes()
        self.refresh: Callable[[float], None] | None = None
        self._clock = clock
        self._load = load
        self._answers: dict[Ticket, asyncio.Future[Decision]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._heard = cast("list[Callable[[Fact, float, Sequence[Effect]], None]]", calls(taps, "heard"))
        self._asked = cast("list[Callable[[PlacementRequest, float, Decision | Ticket | RoostError, float], None]]", calls(taps, "asked"))
        self._previewed = cast("list[Callable[[PlacementRequest, float, Decision | RoostError], None]]", calls(taps, "previewed"))
        self._gave_up = cast("list[Callable[[Ticket, float], None]]", calls(taps, "gave_up"))
        self._rang = cast("list[Callable[[float, Sequence[Effect]], None]]", calls(taps, "rang"))

    @property
    def now(self) -> float:
        return self._clock()

    @property
    def view(self) -> ClusterView:
        """As of now."""
        if self.refresh is not None:
            self.refresh(self._clock())
        return self.decider.view

    @property
    def placer(self) -> Placer:
        return self.decider.placer

    @property
    def has_waiting(self) -> bool:
        """Whether requests wait for a worker."""
        return self.decider.waiting.count > 0

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, request: PlacementRequest) -> Decision | Ticket:
        """The decision; or a ticket, whose caller must call `answer`. Raises what `Decider.ask` raises."""
        clock = self._clock
        now = clock()
        if self.refresh is not None:
            self.refresh(now)
        try:
            answer = self.decider.ask(request, now)
        except RoostError as refusal:
            for tap in self._asked:
                tap(request, now, refusal, clock() - now)
            raise
        if type(answer) is Ticket:
            self._answers[answer] = asyncio.get_running_loop().create_future()
        elapsed_s = clock() - now
        for tap in self._asked:
            tap(request, now, answer, elapsed_s)
        if type(answer) is Ticket:
            self._carry_out(self.decider.effects())
            self._set_timer(now)
        else:
            self.changes.announce()
        return answer

    def preview(self, request: PlacementRequest) -> Decision:
        """Where it would go now; nothing else comes of it. Raises what `Decider.preview` raises."""
        now = self._clock()
        if self.refresh is not None:
            self.refresh(now)
        try:
            answer = self.decider.preview(request, now)
        except RoostError as refusal:
            self._tell_previewed(request, now, refusal)
            raise
        self._tell_previewed(request, now, answer)
        return answer

    def _tell_previewed(self, request: PlacementRequest, now: float, answer: Decision | RoostError) -> None:
        for tap in self._previewed:
            tap(request, now, answer)

    async def answer(self, ticket: Ticket) -> Decision:
        """What becomes of who holds the ticket. Raises NoWorkers (none took it in time), ServerStopping, and what a decision raises."""
        answer = self._answers[ticket]
        try:
            return await answer
        finally:
            del self._answers[ticket]
            now = self._clock()
            if self.decider.give_up(ticket, now):
                for tap in self._gave_up:
                    tap(ticket, now)

    # --- hearing ----------------------------------------------------------------------------------

    def hear(self, fact: Fact, now: float | None = None) -> bool:
        """False if it changed nothing. Raises NoCapacity if a report is of one worker too many."""
        at = self._clock() if now is None else now
        is_new = False
        try:
            is_new = self.decider.hear(fact, at)
        finally:
            effects = self.decider.effects()
            for tap in self._heard:
                tap(fact, at, effects)
        if effects:
            self._carry_out(effects)
        if self.decider.waiting.count:
            self._set_timer(at)
        if is_new:
            self.changes.announce()
        return is_new

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        now = self._clock()
        if self.refresh is not None:
            self.refresh(now)
        self.decider.handle_timer(now)
        effects = self.decider.effects()
        for tap in self._rang:
            tap(now, effects)
        self._carry_out(effects)
        self._set_timer(now)
        self.changes.announce()

    def _set_timer(self, now: float) -> None:
        at = self.decider.next_timer()
        if at is None or at >= self._rings_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._ring)

    # --- doing ------------------------------------------------------------------------------------

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Answered):
                self._tell(effect)
            elif isinstance(effect, Load) and self._load is not None:
                self._load(effect)

    def _tell(self, answered: Answered) -> None:
        answer = self._answers.get(answered.ticket)
        if answer is None or answer.done():
            return
        if isinstance(answered.result, RoostError):
            answer.set_exception(answered.result)
        else:
            answer.set_result(answered.result)

    def close(self) -> None:
        """The timer rings no more."""
        if self._timer is not None:
            self._timer.cancel()

    def __repr__(self) -> str:
        return f"<DeciderShell {self.decider!r}, {len(self._answers)} wait, {self.changes!r}>"
