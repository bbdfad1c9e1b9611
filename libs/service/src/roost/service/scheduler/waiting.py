"""Callers that wait for a worker (`allow_queueing`), each until the dispatcher has bound or refused its request.

State: the answer that each waiter's caller waits for, and one timer. Invariants: a waiter is answered at most once, and is with the
dispatcher exactly as long as its caller waits; nothing waits longer than its own deadline or MAX_WAIT_S; the timer is set whenever the
dispatcher wants to be asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from roost.cluster.errors import NoWorkers, RoostError
from roost.placement.decision import Decision
from roost.placement.dispatcher import Bound, Dispatcher, Waiter
from roost.placement.request import PlacementRequest

MAX_WAIT_S: Final = 30.0  # a cluster without workers for longer is an outage, and callers should hear of it


class WaitingRoom:
    """Where requests wait for a worker. `on_timer` is called when the dispatcher has to be asked again, and no worker has said anything."""

    def __init__(self, dispatcher: Dispatcher, on_timer: Callable[[], None]) -> None:
        self._dispatcher = dispatcher
        self._on_timer = on_timer
        self._answers: dict[Waiter, asyncio.Future[Decision]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = float("inf")

    def enter(self, request: PlacementRequest, now: float) -> Waiter:
        """The request waits from now on; its caller must call `answer`. Raises NoCapacity (the room is full)."""
        waiter = self._dispatcher.wait(request, now)
        self._answers[waiter] = asyncio.get_running_loop().create_future()
        self.set_timer(now)
        return waiter

    async def answer(self, waiter: Waiter) -> Decision:
        """The decision. Raises NoWorkers (none took it in time), or what it was refused with."""
        request = waiter.request
        bound_s = min(request.deadline_s or MAX_WAIT_S, MAX_WAIT_S)
        try:
            async with asyncio.timeout(bound_s):
                return await self._answers[waiter]
        except TimeoutError:
            raise NoWorkers(f"no worker could take {request.model} within {bound_s:.3g} s of waiting") from None
        finally:
            self._dispatcher.take_out(waiter)
            del self._answers[waiter]

    def tell(self, bound: Iterable[Bound]) -> None:
        """Answers those whom the dispatcher bound or refused."""
        for waiter, result in bound:
            answer = self._answers.get(waiter)
            if answer is None or answer.done():
                continue
            if isinstance(result, RoostError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    def set_timer(self, now: float) -> None:
        """The dispatcher's next time may have changed."""
        at = self._dispatcher.next_timer()
        if at >= self._rings_at or at == float("inf"):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._ring)

    def refuse_all(self, refusal: RoostError) -> None:
        """Answers every waiter with `refusal`."""
        self.tell(Bound(waiter, refusal) for waiter in self._dispatcher.waiting())

    def _ring(self) -> None:
        self._timer = None
        self._rings_at = float("inf")
        self._on_timer()

    def __len__(self) -> int:
        return len(self._dispatcher)

    def __repr__(self) -> str:
        return f"<WaitingRoom {self._dispatcher!r}>"
