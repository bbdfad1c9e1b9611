"""`roost.v1.Scheduler` on the central plane."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator

from grpc import aio
from roost.coordinator.codec import answered_to_wire, asked_from_wire, watch_interval_from_wire
from roost.coordinator.plane import CentralPlane
from roost.coordinator.scheduling import Answered, Asked, Scheduling
from roost.coordinator.streams import StopSignal, Write, open_writer, refusing_garbage, stream_tasks
from roost.service.codec import cluster_state_to_wire, decision_to_wire, request_from_wire
from roost.v1 import scheduler_pb2, scheduler_pb2_grpc

CENTRAL = scheduler_pb2.PLANE_CENTRAL

UnaryContext = aio.ServicerContext[scheduler_pb2.ScheduleRequest, scheduler_pb2.ScheduleResponse]
StreamContext = aio.ServicerContext[scheduler_pb2.ScheduleStreamRequest, scheduler_pb2.ScheduleStreamResponse]
StateContext = aio.ServicerContext[scheduler_pb2.GetClusterStateRequest, scheduler_pb2.GetClusterStateResponse]
WatchContext = aio.ServicerContext[scheduler_pb2.WatchClusterStateRequest, scheduler_pb2.WatchClusterStateResponse]


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServicer):
    """Answers from the coordinator's view."""

    def __init__(self, plane: CentralPlane, *, stop: StopSignal) -> None:
        self._plane = plane
        self._scheduling = Scheduling(plane, stop=stop)
        self._stop = stop
        self._unnamed = itertools.count(1)

    async def Schedule(self, request: scheduler_pb2.ScheduleRequest, context: UnaryContext) -> scheduler_pb2.ScheduleResponse:
        question = request_from_wire(request, "" if request.request_id else f"r{next(self._unnamed)}")
        decision = self._plane.place_now(question) or await self._plane.place_later(question)
        return decision_to_wire(decision, CENTRAL)

    async def ScheduleStream(  # type: ignore[override]  # a coroutine, not a generator: see `streams`
        self, request_iterator: AsyncIterable[scheduler_pb2.ScheduleStreamRequest], context: StreamContext
    ) -> None:
        send = await open_writer(context)

        async def write(answer: Answered) -> None:
            await send(answered_to_wire(answer, CENTRAL))

        await self._scheduling.serve(_asked(request_iterator), write)

    async def GetClusterState(
        self, request: scheduler_pb2.GetClusterStateRequest, context: StateContext
    ) -> scheduler_pb2.GetClusterStateResponse:
        return self._state()

    async def WatchClusterState(  # type: ignore[override]  # a coroutine, not a generator: see `streams`
        self, request: scheduler_pb2.WatchClusterStateRequest, context: WatchContext
    ) -> None:
        interval_s = watch_interval_from_wire(request)
        async with stream_tasks() as tasks:
            with self._plane.changes.watching():
                tasks.create_task(self._stop.refuse_when_set())
                await self._watch(interval_s, await open_writer(context))

    async def _watch(self, interval_s: float, write: Write[scheduler_pb2.WatchClusterStateResponse]) -> None:
        while True:
            mark = self._plane.central.mark
            await write(scheduler_pb2.WatchClusterStateResponse(state=self._state()))
            await asyncio.sleep(interval_s)
            await self._plane.changed_since(mark)

    def _state(self) -> scheduler_pb2.GetClusterStateResponse:
        central = self._plane.central
        return cluster_state_to_wire(central.view, central.placer, self._plane.now, CENTRAL)


async def _asked(requests: AsyncIterable[scheduler_pb2.ScheduleStreamRequest]) -> AsyncIterator[Asked]:
    with refusing_garbage():
        async for request in requests:
            yield asked_from_wire(request)
