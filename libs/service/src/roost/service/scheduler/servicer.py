"""`roost.v1.Scheduler` on either plane."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterable, Awaitable

from grpc import aio

from roost.service.codec import cluster_state_to_wire, decision_to_wire, request_from_wire
from roost.service.scheduler.codec import answered_to_wire, asked_from_wire, watch_interval
from roost.service.scheduler.explaining import explained_from_wire, record_to_wire
from roost.service.scheduler.plane import SchedulingPlane
from roost.service.scheduler.scheduling import Answered, Scheduling
from roost.service.streams import StopSignal, Write, open_writer, stream_tasks
from roost.v1 import scheduler_pb2, scheduler_pb2_grpc

UnaryContext = aio.ServicerContext[scheduler_pb2.ScheduleRequest, scheduler_pb2.ScheduleResponse]
StreamContext = aio.ServicerContext[scheduler_pb2.ScheduleStreamRequest, scheduler_pb2.ScheduleStreamResponse]
StateContext = aio.ServicerContext[scheduler_pb2.GetClusterStateRequest, scheduler_pb2.GetClusterStateResponse]
ExplainContext = aio.ServicerContext[scheduler_pb2.ExplainDecisionRequest, scheduler_pb2.ExplainDecisionResponse]
WatchContext = aio.ServicerContext[scheduler_pb2.WatchClusterStateRequest, scheduler_pb2.WatchClusterStateResponse]


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServicer):
    """Answers from the plane's view; `kind` is what the answers say of who decided."""

    def __init__(self, plane: SchedulingPlane, *, stop: StopSignal, kind: scheduler_pb2.Plane.ValueType) -> None:
        self._plane = plane
        self._kind = kind
        self._scheduling = Scheduling(plane, stop=stop)
        self._stop = stop
        self._unnamed = itertools.count(1)

    async def Schedule(self, request: scheduler_pb2.ScheduleRequest, context: UnaryContext) -> scheduler_pb2.ScheduleResponse:
        question = request_from_wire(request, "" if request.request_id else f"r{next(self._unnamed)}")
        decision = self._plane.place_now(question) or await self._plane.place_later(question)
        return decision_to_wire(decision, self._kind)

    async def ScheduleStream(  # type: ignore[override]  # a coroutine, not a generator: see `streams`
        self, request_iterator: AsyncIterable[scheduler_pb2.ScheduleStreamRequest], context: StreamContext
    ) -> None:
        send = await open_writer(context)

        def write(answer: Answered) -> Awaitable[None]:
            return send(answered_to_wire(answer, self._kind))

        await self._scheduling.serve(request_iterator, asked_from_wire, write)

    async def GetClusterState(
        self, request: scheduler_pb2.GetClusterStateRequest, context: StateContext
    ) -> scheduler_pb2.GetClusterStateResponse:
        return self._state()

    async def WatchClusterState(  # type: ignore[override]  # a coroutine, not a generator: see `streams`
        self, request: scheduler_pb2.WatchClusterStateRequest, context: WatchContext
    ) -> None:
        interval_s = watch_interval(request.interval_s)
        async with stream_tasks() as tasks:
            with self._plane.changes.watching():
                tasks.create_task(self._stop.refuse_when_set())
                await self._watch(interval_s, await open_writer(context))

    async def _watch(self, interval_s: float, write: Write[scheduler_pb2.WatchClusterStateResponse]) -> None:
        while True:
            mark = self._plane.mark
            await write(scheduler_pb2.WatchClusterStateResponse(state=self._state()))
            await asyncio.sleep(interval_s)
            await self._plane.changed_since(mark)

    async def ExplainDecision(
        self, request: scheduler_pb2.ExplainDecisionRequest, context: ExplainContext
    ) -> scheduler_pb2.ExplainDecisionResponse:
        records = self._plane.explain(explained_from_wire(request))
        wall_offset_s = time.time() - self._plane.now
        return scheduler_pb2.ExplainDecisionResponse(
            records=[record_to_wire(record, self._kind, wall_offset_s=wall_offset_s) for record in records]
        )

    def _state(self) -> scheduler_pb2.GetClusterStateResponse:
        plane = self._plane
        return cluster_state_to_wire(plane.view, plane.placer, plane.now, self._kind)
