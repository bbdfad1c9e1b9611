"""Late binding: requests that wait in the decider until a worker has room for them, and who of them is bound next. Pure.

State: for each model (and what its requests exclude) one line of waiting requests, aged like a worker's queue, with the sums that tell
how long they have waited together and when the line is tried again. Invariants: at most `capacity` requests wait; each is bound, refused
or taken out exactly once; whoever is bound is the best of its line; a line is tried at least every RETRY_S, and one whose first has waited
for `turn_s` of its model is bound whatever it costs others, so that no model starves.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from roost.cluster.errors import NoCapacity, NoWorkers, RoostError
from roost.placement.decision import Action, Decision
from roost.placement.placer import Placer
from roost.placement.policies.policy import Patience, Waiting
from roost.placement.queue import Place, PriorityQueue
from roost.placement.request import PlacementRequest

MAX_WAITING = 1_000  # each holds a call open; beyond it callers are better off with a refusal and its retry hint
WAITING_PER_SLOT = 64  # where there are many slots, more find their turn in time; a quarter of what one worker's queue takes
MOST_WAITING = 100_000
SOONEST_ROOM_S, LATEST_ROOM_S = 0.1, 10.0  # what a full room advises, whatever is under way
RETRY_S = 0.1  # what no report tells of changes by then: demand that fades, residencies that come of age
SOONEST_RETRY_S = 0.005
AGING_S = 10.0  # of waiting raise a priority by one

_LineKey = tuple[str, frozenset[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One waiting request, compared by identity. `number` names it among those of one decider, from 1; it waits since `since`.

    `found_ready`: when it came, some worker had its model ready.
    """

    number: int
    request: PlacementRequest
    since: float
    found_ready: bool


class Bound(NamedTuple):
    """What became of one who waited."""

    ticket: Ticket
    result: Decision | RoostError


Waits = Callable[[PlacementRequest, Patience, float], None]
"""Told of each request that was asked for, or tried again, and waits; and of the time."""


class LineSnapshot(NamedTuple):
    """Those who wait for the same model, by arrival; never nobody."""

    tickets: tuple[Ticket, ...]
    retry_at: float
    is_stuck: bool


class _Line:
    """Those who wait for the same model."""

    def __init__(self, capacity: int, aging_s: float) -> None:
        self.queue: PriorityQueue[Ticket] = PriorityQueue(capacity=capacity, aging_s=aging_s)
        self.tickets: OrderedDict[Ticket, Place] = OrderedDict()  # by arrival
        self.weight = 0.0
        self.weighted_arrivals = 0.0
        self.retry_at = 0.0
        self.is_stuck = False  # no worker can take them: only one that opens can change that

    def add(self, ticket: Ticket) -> None:
        self.tickets[ticket] = self.queue.push(ticket, ticket.request.priority, ticket.since)
        self._count(ticket, 1)

    def remove(self, ticket: Ticket) -> bool:
        place = self.tickets.pop(ticket, None)
        if place is None:
            return False
        self.queue.remove(place)
        self._count(ticket, -1)
        return True

    def waited_s(self, now: float) -> float:
        return max(0.0, self.weight * now - self.weighted_arrivals)

    def oldest_since(self) -> float:
        return next(iter(self.tickets)).since

    def _count(self, ticket: Ticket, by: int) -> None:
        weight = by * (1 + ticket.request.priority)
        self.weight += weight
        self.weighted_arrivals += weight * ticket.since


class Dispatcher:
    """Mutable, one owner. Time is the caller's, in seconds. `waits`, if there is one, can have workers told to load a model.

    At most `capacity` wait, or `per_slot` for each slot of the fleet where that is more, and never more than MOST_WAITING. Nobody waits for
    longer than `longest_wait_s`, so nobody begins to for a worker that is barred for longer.
    """

    def __init__(
        self,
        placer: Placer,
        *,
        capacity: int = MAX_WAITING,
        per_slot: int = 0,
        aging_s: float = AGING_S,
        waits: Waits | None = None,
        longest_wait_s: float = math.inf,
    ) -> None:
        self._placer = placer
        self._longest_wait_s = longest_wait_s
        self._capacity = capacity
        self._per_slot = per_slot
        self._aging_s = aging_s
        self._waits = waits
        self._can_tell = waits is not None
        self._given = 0  # the number of the last ticket
        self._lines: dict[_LineKey, _Line] = {}
        self.count = 0  # of those who wait; not to be written

    def place(self, request: PlacementRequest, now: float) -> Decision | None:
        """The decision, or None if the request has to wait and may: then `wait`. Raises what `Placer.decide` raises."""
        if not request.may_queue:
            return self._placer.decide(request, now)
        try:
            self._placer.asked(request, now)
            result = self._placer.decide_or_wait(request, self._waiting_before(request, now), now)
        except NoWorkers:
            if self._is_too_late(request, self._placer.barred_for_s(request, now)):
                raise
            return None
        if isinstance(result, Patience):
            if self._waits is not None:
                self._waits(request, result, now)
            return None
        return result

    def wait(self, request: PlacementRequest, now: float) -> Ticket:
        """The request waits from now on, and is tried at the next `bind`. Raises NoCapacity."""
        if self.count >= self._capacity:
            self._check_room()
        key = (request.model, request.excluded)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(MOST_WAITING, self._aging_s)
            line.retry_at = now
        self._given += 1
        ticket = Ticket(self._given, request, now, found_ready=self._placer.holders(request.model) > 0)
        line.add(ticket)
        self.count += 1
        return ticket

    def _check_room(self) -> None:
        """Beyond `capacity`. Raises NoCapacity, with when a load under way will have a line served."""
        room = min(MOST_WAITING, max(self._capacity, self._per_slot * self._placer.slots()))
        if self.count >= room:
            ready_in_s = self._placer.next_ready_in_s(key[0] for key in self._lines)
            retry_s = 1.0 if ready_in_s is None else min(LATEST_ROOM_S, max(SOONEST_ROOM_S, ready_in_s))
            raise NoCapacity(f"{self.count} requests wait for a worker already", retry_s)

    def take_out(self, ticket: Ticket) -> bool:
        """The caller does not wait any more. False if it was answered before."""
        key = (ticket.request.model, ticket.request.excluded)
        line = self._lines.get(key)
        if line is None or not line.remove(ticket):
            return False
        self.count -= 1
        if not line.tickets:
            del self._lines[key]
        return True

    def bind(self, now: float, changed: str = "", *, has_opened: bool = False) -> list[Bound]:
        """Binds everyone for whom there is room now: the `changed` worker may have some, and lines whose time has come are tried anyway.

        `has_opened`: the changed worker takes requests that it may not have taken before.
        """
        if not self._lines:
            return []
        ready = self._placer.ready_there(changed)
        tried = [
            key
            for key, line in self._lines.items()
            if line.retry_at <= now or key[0] in ready or (has_opened and line.is_stuck and self._placer.may_take(changed, *key))
        ]
        bound: list[Bound] = []
        for key in sorted(tried, key=lambda key: self._urgency(key, now)):
            self._bind_line(self._lines[key], now, bound)
        self.count -= len(bound)
        self._lines = {key: line for key, line in self._lines.items() if line.tickets}
        return bound

    def next_timer(self) -> float:
        """When `bind` should be called at the latest; infinite while nobody waits for time to pass."""
        return min((line.retry_at for line in self._lines.values()), default=math.inf)

    def waiting(self) -> list[Ticket]:
        """Everyone who waits."""
        return [ticket for line in self._lines.values() for ticket in line.tickets]

    @property
    def given(self) -> int:
        """The number of the last ticket."""
        return self._given

    def __contains__(self, ticket: object) -> bool:
        """Whether it still waits."""
        if not isinstance(ticket, Ticket):
            return False
        line = self._lines.get((ticket.request.model, ticket.request.excluded))
        return line is not None and ticket in line.tickets

    def __len__(self) -> int:
        return self.count

    def snapshot(self) -> tuple[LineSnapshot, ...]:
        """Everyone who waits, line by line, and when each line is tried again."""
        return tuple(LineSnapshot(tuple(line.tickets), line.retry_at, line.is_stuck) for line in self._lines.values())

    def go_on(self, lines: Iterable[LineSnapshot], given: int) -> None:
        """From a snapshot: the tickets in it are those that wait from now on, and `given` is the number of the last one."""
        self._given = given
        self._lines = {}
        for tickets, retry_at, is_stuck in lines:
            request = tickets[0].request
            line = self._lines[request.model, request.excluded] = _Line(MOST_WAITING, self._aging_s)
            line.retry_at, line.is_stuck = retry_at, is_stuck
            for ticket in tickets:
                line.add(ticket)
        self.count = sum(len(line.tickets) for line in self._lines.values())

    def _bind_line(self, line: _Line, now: float, bound: list[Bound]) -> None:
        while (first := line.queue.first(now)) is not None:
            ticket = first[1]
            result = self._try(line, ticket, now)
            if result is None:
                return
            line.remove(ticket)
            bound.append(Bound(ticket, result))

    def _try(self, line: _Line, ticket: Ticket, now: float) -> Decision | RoostError | None:
        request = ticket.request
        oldest_s = now - line.oldest_since()
        turn_s = self.turn_s(request.model, now)
        try:
            if request.deadline_s:
                request = request._replace(deadline_s=max(1e-6, request.deadline_s - (now - ticket.since)))
            state = Waiting(0, line.waited_s(now), line.weight, oldest_s >= turn_s, self._can_tell)
            result = self._placer.decide_or_wait(request, state, now)
        except NoWorkers as refusal:
            barred_s = self._placer.barred_for_s(request, now)
            if self._is_too_late(request, barred_s, now - ticket.since):
                return refusal
            line.retry_at = now + max(RETRY_S, barred_s)
            line.is_stuck = True
            return None
        except RoostError as refusal:
            return refusal
        line.is_stuck = False
        if isinstance(result, Patience):
            if self._waits is not None:
                self._waits(request, result, now)
            until_turn_s = turn_s - oldest_s
            line.retry_at = now + max(SOONEST_RETRY_S, min(RETRY_S, result.retry_in_s, until_turn_s))
            return None
        if result.action is Action.SERVE and not ticket.found_ready:
            self._placer.statistics.waited_for_load(result.decision_id)
            return result._replace(waited_for_load=True)
        return result

    def _is_too_late(self, request: PlacementRequest, barred_s: float, waited_s: float = 0.0) -> bool:
        """Whether those who could take it are barred for longer than it will wait. Where there is nobody, somebody may come any moment."""
        return min(request.deadline_s or math.inf, self._longest_wait_s - waited_s) < barred_s < math.inf

    def turn_s(self, model: str, now: float) -> float:
        """How long the first request for the model waits at most before it is bound whatever it costs others."""
        return self._placer.turn_s(model, len(self._lines), now)

    def _waiting_before(self, request: PlacementRequest, now: float) -> Waiting:
        line = self._lines.get((request.model, request.excluded))
        if line is None:
            return Waiting(weight=1.0 + request.priority, can_tell=self._can_tell, is_new=True)
        ahead = line.queue.ahead_of(request.priority, now)
        return Waiting(ahead, line.waited_s(now), line.weight + 1 + request.priority, can_tell=self._can_tell, is_new=True)

    def _urgency(self, key: _LineKey, now: float) -> tuple[float, float]:
        first = self._lines[key].queue.first(now)
        assert first is not None  # noqa: S101  # a line without anyone is dropped
        ticket = first[1]
        return (-min(9.0, ticket.request.priority + (now - ticket.since) / self._aging_s), ticket.since)

    def __repr__(self) -> str:
        return f"<Dispatcher {self.count}/{self._capacity} waiting for {len(self._lines)} models>"
