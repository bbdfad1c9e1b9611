"""Requests that found no worker and may wait until there is one (`allow_queueing`).

State: a bounded, aged priority queue of waiters. Invariants: a waiter is answered at most once, and is in the queue exactly as long as
its caller waits; nothing waits longer than its own deadline or MAX_WAIT_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from roost.cluster.errors import NoWorkers, RoostError
from roost.placement.decision import Decision
from roost.placement.queue import PriorityQueue
from roost.placement.request import PlacementRequest

MAX_WAITING: Final = 1_000  # each holds a call open; beyond it callers are better off with a refusal and its retry hint
MAX_WAIT_S: Final = 30.0  # a cluster without workers for longer is an outage, and callers should hear of it

Decide = Callable[[PlacementRequest], Decision]


@dataclass(frozen=True, slots=True)
class _Waiter:
    request: PlacementRequest
    since: float
    answer: asyncio.Future[Decision]

    def request_at(self, now: float) -> PlacementRequest:
        """The request with what is left of its deadline. Raises NoWorkers if nothing is."""
        if not self.request.deadline_s:
            return self.request
        left_s = self.request.deadline_s - (now - self.since)
        if left_s <= 0:
            raise _came_too_late(self.request.model, self.request.deadline_s)
        return replace(self.request, deadline_s=left_s)


class WaitingRoom:
    """Where requests wait for a worker that may take them."""

    def __init__(self, *, capacity: int = MAX_WAITING) -> None:
        self._queue: PriorityQueue[_Waiter] = PriorityQueue(capacity=capacity)

    async def wait(self, request: PlacementRequest, now: float) -> Decision:
        """The decision, once `admit` made one.

        Raises NoCapacity (the room is full), NoWorkers (none came in time), or what `admit` was refused with.
        """
        waiter = _Waiter(request, now, asyncio.get_running_loop().create_future())
        ticket = self._queue.push(waiter, request.priority, now)
        bound_s = min(request.deadline_s or MAX_WAIT_S, MAX_WAIT_S)
        try:
            async with asyncio.timeout(bound_s):
                return await waiter.answer
        except TimeoutError:
            raise _came_too_late(request.model, bound_s) from None
        finally:
            self._queue.remove(ticket)

    def admit(self, may_take: Callable[[PlacementRequest], bool], decide: Decide, now: float) -> None:
        """Answers, best first, every waiter for which `may_take` holds; the time that it has waited counts against its deadline."""
        while (waiter := self._queue.pop(now, lambda waiter: may_take(waiter.request))) is not None:
            if waiter.answer.done():
                continue
            try:
                waiter.answer.set_result(decide(waiter.request_at(now)))
            except RoostError as refusal:
                waiter.answer.set_exception(refusal)

    def refuse_all(self, refusal: RoostError, now: float) -> None:
        """Answers every waiter with `refusal`."""
        while (waiter := self._queue.pop(now)) is not None:
            if not waiter.answer.done():
                waiter.answer.set_exception(refusal)

    def __len__(self) -> int:
        return len(self._queue)

    def __repr__(self) -> str:
        return f"<WaitingRoom {len(self)} waiting>"


def _came_too_late(model: str, bound_s: float) -> NoWorkers:
    return NoWorkers(f"no worker could take {model} within {bound_s:.3g} s of waiting")
