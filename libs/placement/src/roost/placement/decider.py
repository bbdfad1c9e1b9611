"""The decider: what it knows of the cluster, who waits in it, and the one place where both meet. No IO, no clock, no tasks.

State: the view, the placer, the waiting requests and the plans, all owned here and nowhere else; the effects that nobody has fetched yet;
and when each waiting request has waited for long enough. Whoever drives it tells it facts (`hear`), asks (`ask`), fetches what is to be
done after each of both (`effects`), and calls `handle_timer` when `next_timer` has come. Invariants: every ticket is answered by one effect
or was given up; outcomes are settled only from reports that the view took in; time is the caller's, in seconds, and never goes back.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

from roost.cluster.errors import NoWorkers, RoostError, ServerStopping
from roost.cluster.view import ClusterView, LivenessChange, WorkerEntry
from roost.cluster.view_snapshot import ViewSnapshot
from roost.cluster.worker_entry import is_later_life, room_bytes
from roost.cluster.worker_state import Liveness, WorkerState
from roost.placement import facts
from roost.placement.decision import Decision
from roost.placement.dispatcher import Dispatcher, LineSnapshot, Ticket
from roost.placement.effects import Answered, Changed, Effect, Life, Load
from roost.placement.placer import Placer, PlacerSnapshot
from roost.placement.plans.plan import Wish
from roost.placement.plans.registry import plan_factory
from roost.placement.policies.policy import Choice, Patience
from roost.placement.records import DecisionRecords
from roost.placement.registry import MakePolicy
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng
from roost.placement.terms import Terms

_LIVE = Liveness.LIVE
_LIVES: Mapping[Liveness | None, Life] = MappingProxyType(
    {Liveness.LIVE: Life.RETURNED, Liveness.SUSPECT: Life.SUSPECTED, Liveness.DEAD: Life.DIED, None: Life.FORGOTTEN}
)


class DeciderSnapshot(NamedTuple):
    """A decider written down: all from which it goes on. `given` is the number of the last ticket."""

    view: ViewSnapshot
    placer: PlacerSnapshot
    lines: tuple[LineSnapshot, ...]
    given: int


class Decider:
    """Mutable, one owner. `view` knows of nobody yet; `records`: where decisions are kept, to be explained.

    `make_policy` makes one that has no name in the registry. Raises InvalidField if there is no such policy.
    """

    def __init__(
        self, view: ClusterView, terms: Terms, *, rng: Rng, records: DecisionRecords | None = None, make_policy: MakePolicy | None = None
    ) -> None:
        self.view = view
        self.terms = terms
        self.records = records
        self.placer = Placer(
            view,
            terms.policy,
            rng=rng,
            decider=terms.decider,
            reservation_bound_s=terms.reservation_bound_s,
            is_view_shared=terms.is_view_shared,
            lets_wait=terms.lets_wait,
            records=records,
            make_policy=make_policy,
        )
        self._begin_plans()
        self.waiting = Dispatcher(
            self.placer,
            capacity=terms.capacity,
            per_slot=terms.waiting_per_slot,
            aging_s=terms.aging_s,
            waits=self._waits if self._plans else None,
            longest_wait_s=terms.longest_wait_s,
        )
        self._ends: list[tuple[float, int, Ticket]] = []  # a heap: when each has waited for long enough
        self._effects: list[Effect] = []
        self._stopping: ServerStopping | None = None
        self._hears: Mapping[type[facts.Fact], Callable[[facts.Fact, float], bool]] = cast(
            "Mapping[type[facts.Fact], Callable[[facts.Fact, float], bool]]",
            MappingProxyType(
                {
                    facts.Reported: self._reported,
                    facts.Told: self._told,
                    facts.StreamLost: self._stream_lost,
                    facts.StreamEnded: self._stream_ended,
                    facts.Judged: self._judged,
                    facts.Forgotten: self._forgotten,
                    facts.TimePassed: self._time_passed,
                    facts.SilenceJudged: self._silence_judged,
                    facts.Catalogued: self._catalogued,
                    facts.Stopping: self._stop,
                }
            ),
        )

    # --- asking -----------------------------------------------------------------------------------

    def ask(self, request: PlacementRequest, now: float) -> Decision | Ticket:
        """The decision; or a ticket, if the request waits from now on, as it does where no worker could take it or later is better.

        Raises UnknownModel, ModelTooLarge, DeadlineImpossible, NoWorkers if it may not wait, NoCapacity if too many do, ServerStopping.
        """
        try:
            decision = self.waiting.place(request, now)
            return self._wait(request, now) if decision is None else decision
        except RoostError as refusal:
            self._refused(request, refusal, now)
            raise

    def preview(self, request: PlacementRequest, now: float) -> Decision:
        """Where the request would go now, if it were one; nothing comes of asking, and the decision has no id.

        Raises UnknownModel, ModelTooLarge, DeadlineImpossible, NoWorkers.
        """
        return self.placer.preview(request, now)

    def give_up(self, ticket: Ticket, now: float) -> bool:  # noqa: ARG002  # when it was, a recording tells
        """Whoever held the ticket does not wait any more. False if it was answered before."""
        return self.waiting.take_out(ticket)

    def _wait(self, request: PlacementRequest, now: float) -> Ticket:
        if self._stopping is not None:
            raise self._stopping
        ticket = self.waiting.wait(request, now)
        heapq.heappush(self._ends, (now + self._longest_wait_s(request), ticket.number, ticket))
        return ticket

    def _longest_wait_s(self, request: PlacementRequest) -> float:
        return min(request.deadline_s or math.inf, self.terms.longest_wait_s)

    def _begin_plans(self) -> None:
        terms, ground = self.terms, self.placer.ground
        self._plans = tuple(plan_factory(name)(ground) for name in terms.plans) if terms.can_tell else ()
        self.placer.priced = self._asked if self._plans else None

    def _asked(self, request: PlacementRequest, choice: Choice | Patience, backlog: int, now: float) -> None:
        for plan in self._plans:
            self._begin(plan.asked(request, choice, backlog, now))

    def _waits(self, request: PlacementRequest, patience: Patience, now: float) -> None:
        for plan in self._plans:
            self._begin(plan.waits(request, patience, now))

    def _begin(self, wish: Wish | None) -> None:
        if wish is not None:
            self._effects.append(Load(*wish))

    def _refused(self, request: PlacementRequest, refusal: RoostError, now: float) -> None:
        if self.records is not None:
            self.records.refused(request, refusal, now, self.placer.passed_over(request, now))

    # --- time and effects -------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When `handle_timer` is due, None while nobody waits for time to pass."""
        ends = self._ends
        while ends and ends[0][2] not in self.waiting:
            heapq.heappop(ends)
        at = min(self.waiting.next_timer(), ends[0][0] if ends else math.inf)
        return None if at == math.inf else at

    def handle_timer(self, now: float) -> None:
        """Time has passed: who has waited for long enough is refused, and the others are tried again."""
        ends = self._ends
        while ends and ends[0][0] <= now:
            ticket = heapq.heappop(ends)[2]
            if self.waiting.take_out(ticket):
                request = ticket.request
                waited_s = self._longest_wait_s(request)
                self._answer(ticket, NoWorkers(f"no worker could take {request.model} within {waited_s:.3g} s of waiting"), now)
        self._bind("", now)

    def effects(self) -> tuple[Effect, ...]:
        """What is to be done now, each once."""
        if not self._effects:
            return ()
        effects, self._effects = self._effects, []
        return tuple(effects)

    def _bind(self, node_id: str, now: float, *, has_opened: bool = False) -> None:
        """Decide for those for whom there is room, after what happened to that worker."""
        for ticket, result in self.waiting.bind(now, node_id, has_opened=has_opened):
            self._answer(ticket, result, now)

    def _answer(self, ticket: Ticket, result: Decision | RoostError, now: float) -> None:
        if isinstance(result, RoostError):
            self._refused(ticket.request, result, now)
        self._effects.append(Answered(ticket, result))

    # --- hearing ----------------------------------------------------------------------------------

    def hear(self, fact: facts.Fact, now: float) -> bool:
        """Something happened. False if it changed nothing because it was known, or is past: a late report, a stream that is not current.

        Raises NoCapacity if a report is of one worker too many.
        """
        return self._hears[type(fact)](fact, now)

    def later_epoch(self, state: WorkerState) -> int:
        """The epoch of a known life that makes the report's life a past one, 0 if none does."""
        entry = self.view.entries.get(state.node_id)
        return 0 if entry is None or entry.state.epoch <= state.epoch else entry.state.epoch

    def _reported(self, fact: facts.Reported, now: float) -> bool:
        state = fact.state
        before = self.view.entries.get(state.node_id)
        applied = self.view.apply(state, now, is_streamed=fact.is_streamed, stream=fact.stream)
        if not applied.is_accepted:
            return False
        self.placer.settle(state.node_id, state.outcomes, now)
        self._took_in(before, applied.entry, now)
        return True

    def _told(self, fact: facts.Told, now: float) -> bool:
        state, liveness, written_at, arrived_before = fact
        name, view = state.node_id, self.view
        before = view.entries.get(name)
        if before is not None and state.epoch < before.state.epoch:  # who tells is its own sidecar: the machine's clock was set back
            view.judge(name, Liveness.DEAD, written_at)
        applied = view.apply(state, written_at, is_streamed=True)
        if applied.is_accepted and liveness is _LIVE:
            self.placer.seen(name, arrived_before)
        view.judge(name, liveness, now)
        self._took_in(before, view.entries[name], now)
        return applied.is_accepted

    def _took_in(self, before: WorkerEntry | None, after: WorkerEntry, now: float) -> None:
        """The view has a newer report, or another judgement of the worker."""
        if before is None or before.liveness is not after.liveness or before.state.epoch != after.state.epoch:
            self._lived(before, after)
        if self.waiting.count:
            self._bind(after.state.node_id, now, has_opened=_has_opened(before, after))

    def _lived(self, before: WorkerEntry | None, after: WorkerEntry) -> None:
        life = _LIVES[after.liveness]
        if before is None:
            life = Life.JOINED
        elif after.liveness is _LIVE and is_later_life(before.state, after.state):
            life = Life.RESTARTED
        elif before.liveness is after.liveness:
            return
        self._effects.append(Changed(after.node_id, life))

    def _stream_lost(self, fact: facts.StreamLost, now: float) -> bool:
        is_changed = self.view.stream_lost(fact.node_id, fact.epoch, now, stream=fact.stream)
        if is_changed:
            self._effects.append(Changed(fact.node_id, Life.SUSPECTED))
        return is_changed

    def _stream_ended(self, fact: facts.StreamEnded, now: float) -> bool:
        if self.view.leave(fact.node_id, fact.epoch, fact.stream):
            self._effects.append(Changed(fact.node_id, Life.LEFT))
            return True
        return self._stream_lost(facts.StreamLost(*fact), now)

    def _judged(self, fact: facts.Judged, now: float) -> bool:
        before = self.view.entries.get(fact.node_id)
        if before is None or not self.view.judge(fact.node_id, fact.liveness, now):
            return False
        self._took_in(before, self.view.entries[fact.node_id], now)
        return True

    def _forgotten(self, fact: facts.Forgotten, now: float) -> bool:
        del now
        is_changed = self.view.forget(fact.node_id)
        if is_changed:
            self._effects.append(Changed(fact.node_id, Life.FORGOTTEN))
        return is_changed

    def _time_passed(self, fact: facts.TimePassed, now: float) -> bool:
        del fact
        self.placer.advance(now)
        return True

    def _silence_judged(self, fact: facts.SilenceJudged, now: float) -> bool:
        self.placer.advance(now)
        changes: list[LivenessChange] = self.view.advance(now, expected_interval_s=fact.expected_interval_s)
        self._effects += [Changed(each.node_id, _LIVES[each.after], each.silent_s) for each in changes]
        return bool(changes)

    def _catalogued(self, fact: facts.Catalogued, now: float) -> bool:
        del now
        return self.view.take_catalogue(fact.catalogue)

    def _stop(self, fact: facts.Stopping, now: float) -> bool:
        self._stopping = ServerStopping(fact.name)
        for ticket in self.waiting.waiting():
            self.waiting.take_out(ticket)
            self._answer(ticket, self._stopping, now)
        return True

    # --- how it is written down and taken up again --------------------------------------------------

    def snapshot(self) -> DeciderSnapshot:
        """All from which it goes on, as values that never change."""
        return DeciderSnapshot(self.view.snapshot(), self.placer.snapshot(), self.waiting.snapshot(), self.waiting.given)

    def go_on(self, snapshot: DeciderSnapshot, rng: Rng) -> None:
        """From a snapshot and the view as it is: two deciders that do so with equal ones decide alike from then on."""
        self.placer.go_on(snapshot.placer, rng)
        self._begin_plans()
        self.waiting.go_on(snapshot.lines, snapshot.given)
        self._ends = [(each.since + self._longest_wait_s(each.request), each.number, each) for each in self.waiting.waiting()]
        heapq.heapify(self._ends)

    def __repr__(self) -> str:
        return f"<Decider {self.placer!r}, {self.waiting!r}>"


def _has_opened(before: WorkerEntry | None, after: WorkerEntry) -> bool:
    """Whether requests that found no worker before might find this one now: it takes new work, or more models, than it did."""
    if not after.is_available:
        return False
    if before is None or not before.is_available or after.catalogue is not before.catalogue:
        return True
    return len(after.state.failing) < len(before.state.failing) or room_bytes(after.state) > room_bytes(before.state)
