"""Late binding: requests that wait in the decider until a worker has room for them, and who of them is bound next. Pure.

State: for each model (and what its requests exclude) one line of waiting requests, aged like a worker's queue, with the sums that tell
how long they have waited together and when the line is tried again. Invariants: at most `capacity` requests wait; each is bound, refused
or taken out exactly once; whoever is bound is the best of its line; a line is tried at least every RETRY_S, and one whose first has waited
for `turn_s` of its model is bound whatever it costs others, so that no model starves.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from roost.cluster.errors import NoCapacity, NoWorkers, RoostError
from roost.placement.decision import Action, Decision
from roost.placement.placer import Placer
from roost.placement.policies.policy import Patience, Waiting
from roost.placement.queue import PriorityQueue, Ticket
from roost.placement.request import PlacementRequest

MAX_WAITING = 1_000  # each holds a call open; beyond it callers are better off with a refusal and its retry hint
RETRY_S = 0.1  # what no report tells of changes by then: demand that fades, residencies that come of age
SOONEST_RETRY_S = 0.005
TOLD_FOR_S = 1.0  # a worker that was told to load a model reports that it does by then; until then nobody else is told
# The first of a line is bound after this many of its model's loads, whatever it costs others: waiting longer to spare them a load of theirs
# would be no fairness. At least a second, because a load that takes no time is no reason to be hasty.
TURN_LOADS = 2.0
SHORTEST_TURN_S = 1.0

_LineKey = tuple[str, frozenset[str]]


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """One waiting request, compared by identity. `found_ready`: when it came, some worker had its model ready."""

    request: PlacementRequest
    since: float
    found_ready: bool


class Bound(NamedTuple):
    """What became of one waiter."""

    waiter: Waiter
    result: Decision | RoostError


class Copy(NamedTuple):
    """A worker should load a model that is ready elsewhere, for those who wait."""

    node_id: str
    model: str


class LineSnapshot(NamedTuple):
    """Those who wait for the same model, by arrival; never nobody."""

    waiters: tuple[Waiter, ...]
    retry_at: float
    is_stuck: bool


class _Line:
    """Those who wait for the same model."""

    def __init__(self, capacity: int, aging_s: float) -> None:
        self.queue: PriorityQueue[Waiter] = PriorityQueue(capacity=capacity, aging_s=aging_s)
        self.tickets: OrderedDict[Waiter, Ticket] = OrderedDict()  # by arrival
        self.weight = 0.0
        self.weighted_arrivals = 0.0
        self.retry_at = 0.0
        self.is_stuck = False  # no worker can take them: only one that opens can change that

    def add(self, waiter: Waiter) -> None:
        self.tickets[waiter] = self.queue.push(waiter, waiter.request.priority, waiter.since)
        self._count(waiter, 1)

    def remove(self, waiter: Waiter) -> bool:
        ticket = self.tickets.pop(waiter, None)
        if ticket is None:
            return False
        self.queue.remove(ticket)
        self._count(waiter, -1)
        return True

    def waited_s(self, now: float) -> float:
        return max(0.0, self.weight * now - self.weighted_arrivals)

    def oldest_since(self) -> float:
        return next(iter(self.tickets)).since

    def _count(self, waiter: Waiter, by: int) -> None:
        weight = by * (1 + waiter.request.priority)
        self.weight += weight
        self.weighted_arrivals += weight * waiter.since


class Dispatcher:
    """Mutable, one owner. Time is the caller's, in seconds.

    `can_tell`: whoever owns it takes the copies that are wanted after each call and has workers load them (`take_copies`).
    """

    def __init__(self, placer: Placer, *, capacity: int = MAX_WAITING, aging_s: float = 10.0, can_tell: bool = False) -> None:
        self._placer = placer
        self._capacity = capacity
        self._aging_s = aging_s
        self._can_tell = can_tell
        self._copies: list[Copy] = []
        self._told: dict[str, float] = {}  # models of which another copy was asked for, and when
        self._lines: dict[_LineKey, _Line] = {}
        self._count = 0

    def place(self, request: PlacementRequest, now: float) -> Decision | None:
        """The decision, or None if the request has to wait and may: then `wait`. Raises what `Placer.decide` raises."""
        if not request.may_queue:
            return self._placer.decide(request, now)
        try:
            self._placer.asked(request, now)
            result = self._placer.decide_or_wait(request, self._waiting_before(request, now), now)
        except NoWorkers:
            return None
        if isinstance(result, Patience):
            self._note_copy(request, result, now)
            return None
        return result

    def take_copies(self) -> list[Copy]:
        """The copies that became wanted since this was last asked."""
        copies, self._copies = self._copies, []
        return copies

    def wait(self, request: PlacementRequest, now: float) -> Waiter:
        """The request waits from now on, and is tried at the next `bind`. Raises NoCapacity."""
        if self._count >= self._capacity:
            raise NoCapacity(f"{self._capacity} requests wait for a worker already", 1.0)
        key = (request.model, request.excluded)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(self._capacity, self._aging_s)
            line.retry_at = now
        waiter = Waiter(request, now, found_ready=self._placer.holders(request.model) > 0)
        line.add(waiter)
        self._count += 1
        return waiter

    def take_out(self, waiter: Waiter) -> bool:
        """The caller does not wait any more. False if it was answered before."""
        key = (waiter.request.model, waiter.request.excluded)
        line = self._lines.get(key)
        if line is None or not line.remove(waiter):
            return False
        self._count -= 1
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
        self._count -= len(bound)
        self._lines = {key: line for key, line in self._lines.items() if line.tickets}
        return bound

    def next_timer(self) -> float:
        """When `bind` should be called at the latest; infinite while nobody waits for time to pass."""
        return min((line.retry_at for line in self._lines.values()), default=math.inf)

    def waiting(self) -> list[Waiter]:
        """Everyone who waits."""
        return [waiter for line in self._lines.values() for waiter in line.tickets]

    def __len__(self) -> int:
        return self._count

    def snapshot(self) -> tuple[LineSnapshot, ...]:
        """Everyone who waits, line by line, and when each line is tried again."""
        return tuple(LineSnapshot(tuple(line.tickets), line.retry_at, line.is_stuck) for line in self._lines.values())

    def go_on(self, lines: Iterable[LineSnapshot]) -> None:
        """From a snapshot: the waiters in it are those who wait from now on."""
        self._lines = {}
        for waiters, retry_at, is_stuck in lines:
            request = waiters[0].request
            line = self._lines[request.model, request.excluded] = _Line(self._capacity, self._aging_s)
            line.retry_at, line.is_stuck = retry_at, is_stuck
            for waiter in waiters:
                line.add(waiter)
        self._count = sum(len(line.tickets) for line in self._lines.values())

    def _bind_line(self, line: _Line, now: float, bound: list[Bound]) -> None:
        while (first := line.queue.first(now)) is not None:
            waiter = first[1]
            result = self._try(line, waiter, now)
            if result is None:
                return
            line.remove(waiter)
            bound.append(Bound(waiter, result))

    def _try(self, line: _Line, waiter: Waiter, now: float) -> Decision | RoostError | None:
        request = waiter.request
        oldest_s = now - line.oldest_since()
        turn_s = self.turn_s(request.model)
        try:
            if request.deadline_s:
                request = request._replace(deadline_s=max(1e-6, request.deadline_s - (now - waiter.since)))
            state = Waiting(0, line.waited_s(now), line.weight, oldest_s >= turn_s, self._can_tell)
            result = self._placer.decide_or_wait(request, state, now)
        except NoWorkers:
            line.retry_at = math.inf
            line.is_stuck = True
            return None
        except RoostError as refusal:
            return refusal
        line.is_stuck = False
        if isinstance(result, Patience):
            self._note_copy(request, result, now)
            until_turn_s = turn_s - oldest_s
            line.retry_at = now + max(SOONEST_RETRY_S, min(RETRY_S, result.retry_in_s, until_turn_s))
            return None
        if result.action is Action.SERVE and not waiter.found_ready:
            self._placer.statistics.waited_for_load(result.decision_id)
            return result._replace(waited_for_load=True)
        return result

    def turn_s(self, model: str) -> float:
        """How long the first request for the model waits at most before it is bound whatever it costs others."""
        return max(SHORTEST_TURN_S, TURN_LOADS * self._placer.load_s(model))

    def _waiting_before(self, request: PlacementRequest, now: float) -> Waiting:
        line = self._lines.get((request.model, request.excluded))
        if line is None:
            return Waiting(weight=1.0 + request.priority, can_tell=self._can_tell)
        ahead = line.queue.ahead_of(request.priority, now)
        return Waiting(ahead, line.waited_s(now), line.weight + 1 + request.priority, can_tell=self._can_tell)

    def _note_copy(self, request: PlacementRequest, patience: Patience, now: float) -> None:
        model = request.model
        if patience.copy_to and self._told.get(model, -math.inf) + TOLD_FOR_S <= now:
            self._told[model] = now
            self._copies.append(Copy(patience.copy_to, model))

    def _urgency(self, key: _LineKey, now: float) -> tuple[float, float]:
        first = self._lines[key].queue.first(now)
        assert first is not None  # noqa: S101  # a line without anyone is dropped
        waiter = first[1]
        return (-min(9.0, waiter.request.priority + (now - waiter.since) / self._aging_s), waiter.since)

    def __repr__(self) -> str:
        return f"<Dispatcher {self._count}/{self._capacity} waiting for {len(self._lines)} models>"
