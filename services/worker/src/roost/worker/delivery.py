"""Generations on their way to their callers: never silent for long, at most one run of each, no slot for a reader that does not read, and
handed over when the worker drains and its grace is past.

What a generation is lives in the runtime; here it is only told. A token costs two looks at the clock: all that is due by time is done
by one task for all deliveries, which looks at them four times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

import grpc

from roost.cluster.errors import HandedOver, NoCapacity, ReaderStalled, RoostError, StaleAttempt
from roost.service.logs import get_logger
from roost.v1 import worker_pb2
from roost.worker.codec import generation_event_to_wire, standing_to_wire
from roost.worker.core.fence import Fence
from roost.worker.engines.interface import ResumePolicy
from roost.worker.generation import GenerationRequest
from roost.worker.progress import Progress
from roost.worker.runtime import Runtime

LOOK_S: Final = 0.25  # how often the deliveries are looked at
SILENCE_S: Final = 1.0  # of a stream, before it is told how the generation stands
HANDOVER_S: Final = 5.0  # that an older run has to end; it takes one turn of its engine, or nothing
CONTENDED_SHARE: Final = 0.5  # of the time that a reader has, while others wait for its slot

Answer = worker_pb2.GenerateResponse
Write = Callable[[Answer], Awaitable[None]]
log = get_logger()


class Delivery:
    """One generation on its way. State: when something was said last, since when a write has been under way, and why it is to end.

    Invariant: at most one write is under way, whether of the generation or of its progress.
    """

    def __init__(self, request: GenerationRequest, write: Write, clock: Callable[[], float]) -> None:
        self.request = request
        self.progress = Progress()
        self.gone = asyncio.Event()
        self.said_at = clock()
        self.writing_since: float | None = None
        self.ended_by: RoostError | None = None
        self.write = write
        self._clock = clock
        self._scope: asyncio.Timeout | None = None
        self.aside: asyncio.Task[None] | None = None

    @property
    def can_go_on(self) -> bool:
        """Whether its caller would have it continued by another worker."""
        return bool(self.request.generation_id) and self.request.resume_policy is not ResumePolicy.NEVER

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does the work until it is done, or raises what `end` was called with."""
        try:
            async with asyncio.timeout(None) as self._scope:
                await work()
        except TimeoutError:
            if self.ended_by is None:
                raise
            raise self.ended_by from None
        finally:
            self.gone.set()
            if self.aside is not None:  # a call must not end while it is written to
                self.aside.cancel()
                await asyncio.wait({self.aside})

    def end(self, why: RoostError) -> None:
        """The work is broken off at once; whoever waits for it is told why."""
        if self.ended_by is None and self._scope is not None and not self.gone.is_set():
            self.ended_by = why
            self._scope.reschedule(asyncio.get_running_loop().time())

    def say_aside(self, answer: Answer, tasks: asyncio.TaskGroup) -> None:
        """Writes it beside the work, which goes on meanwhile and waits for it before it writes. Not while something is being written."""
        self.writing_since = self._clock()
        self.aside = tasks.create_task(self._say_aside(answer))

    async def _say_aside(self, answer: Answer) -> None:
        try:
            await self.write(answer)
        except grpc.aio.BaseError as error:  # the caller is gone, which its call will say
            log.debug("progress_unheard", error=repr(error))
        finally:
            self.said_at = self._clock()
            self.writing_since = None
            self.aside = None


class Deliveries:
    """Every delivery under way. `reader_timeout_s`: how long one may write the same answer; half of that while others wait for a slot.

    `handover_s`: how long an older run has to end.
    """

    def __init__(self, runtime: Runtime, *, clock: Callable[[], float], reader_timeout_s: float, handover_s: float = HANDOVER_S) -> None:
        self._runtime = runtime
        self._clock = clock
        self._reader_timeout_s = reader_timeout_s
        self._handover_s = handover_s
        self._fence: Fence[Delivery] = Fence()
        self._under_way: set[Delivery] = set()

    async def deliver(self, request: GenerationRequest, write: Write) -> None:
        """The whole generation. Raises StaleAttempt and ReaderStalled beside what the runtime raises."""
        delivery = Delivery(request, write, self._clock)
        older = self._enter(delivery)
        self._under_way.add(delivery)
        try:
            await delivery.run(lambda: self._tell(delivery, older))
        finally:
            self._under_way.discard(delivery)
            if request.generation_id:
                self._fence.leave(request.generation_id, delivery, self._clock())

    def _enter(self, delivery: Delivery) -> Delivery | None:
        """Raises StaleAttempt."""
        request = delivery.request
        if not request.generation_id:
            return None
        with self._runtime.refusals(request.model, request.decision_id):
            return self._fence.enter(request.generation_id, request.attempt, delivery, self._clock())

    async def _tell(self, delivery: Delivery, older: Delivery | None) -> None:
        request, write, clock = delivery.request, delivery.write, self._clock
        if older is not None:
            with self._runtime.refusals(request.model, request.decision_id):
                await self._hand_over(older, request.attempt)
        async with aclosing(self._runtime.generate(request, delivery.progress)) as events:
            async for event in events:
                if delivery.aside is not None:
                    await asyncio.wait({delivery.aside})
                delivery.writing_since = clock()
                await write(generation_event_to_wire(event))
                delivery.said_at = clock()
                delivery.writing_since = None

    async def _hand_over(self, older: Delivery, attempt: int) -> None:
        """The older run ends before this one begins. Raises NoCapacity if it does not."""
        older.end(StaleAttempt(older.request.attempt, attempt))
        try:
            async with asyncio.timeout(self._handover_s):
                await older.gone.wait()
        except TimeoutError:
            raise NoCapacity("the generation's older run has not ended yet", 1.0) from None

    async def run(self) -> None:
        """Looks after the deliveries for as long as the worker lives."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(LOOK_S)
                self._look(self._clock(), tasks)

    def _look(self, now: float, tasks: asyncio.TaskGroup) -> None:
        is_over = now >= self._runtime.core.hands_over_at
        is_contended = self._runtime.core.slots.queue_depth > 0
        reader_timeout_s = self._reader_timeout_s * (CONTENDED_SHARE if is_contended else 1.0)
        for delivery in self._under_way:
            if is_over and delivery.can_go_on:
                delivery.end(HandedOver(self._runtime.core.node_id))
            elif delivery.writing_since is not None:
                if now - delivery.writing_since >= reader_timeout_s:
                    log.info("reader_stalled", model=delivery.request.model, stalled_s=round(now - delivery.writing_since, 1))
                    delivery.end(ReaderStalled(now - delivery.writing_since))
            elif now - delivery.said_at >= SILENCE_S:
                standing = self._runtime.standing(delivery.progress)
                if standing is not None:
                    delivery.say_aside(standing_to_wire(standing), tasks)

    def __repr__(self) -> str:
        return f"<Deliveries {len(self._under_way)} under way, {self._fence!r}>"
