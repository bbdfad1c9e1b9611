"""`roost.v1.Scheduler` on either plane: to the desk and back."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable

from grpc import aio

from roost.service.codec import decision_to_wire, request_from_wire
from roost.service.scheduler.codec import answer_to_wire, question_from_wire, watch_interval
from roost.service.scheduler.desk import Answer, Desk, Knowledge, Question
from roost.service.scheduler.explaining import explained_from_wire, record_to_wire
from roost.service.scheduler.state_codec import cluster_state_to_wire
from roost.service.streams import open_writer, refusing_garbage
from roost.v1 import scheduler_pb2, scheduler_pb2_grpc

UnaryContext = aio.ServicerContext[scheduler_pb2.ScheduleRequest, scheduler_pb2.ScheduleResponse]
StreamContext = aio.ServicerContext[scheduler_pb2.ScheduleStreamRequest, scheduler_pb2.ScheduleStreamResponse]
StateContext = aio.ServicerContext[scheduler_pb2.GetClusterStateRequest, scheduler_pb2.GetClusterStateResponse]
ExplainContext = aio.ServicerContext[scheduler_pb2.ExplainDecisionRequest, scheduler_pb2.ExplainDecisionResponse]
WatchContext = aio.ServicerContext[scheduler_pb2.WatchClusterStateRequest, scheduler_pb2.WatchClusterStateResponse]


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServicer):
    """`kind` is what the answers say of who decided."""

    def __init__(self, desk: Desk, *, kind: scheduler_pb2.Plane.ValueType) -> None:
        self._desk = desk
        self._kind = kind
        self._unnamed = itertools.count(1)

    async def Schedule(self, request: scheduler_pb2.ScheduleRequest, context: UnaryContext) -> scheduler_pb2.ScheduleResponse:
        question = request_from_wire(request, "" if request.request_id else f"r{next(self._unnamed)}")
        decision = self._desk.preview(question) if request.dry_run else await self._desk.ask(question)
        return decision_to_wire(decision, self._kind)

    async def ScheduleStream(  # type: ignore[override]  # a coroutine, not a generator: see `streams`
        self, request_iterator: AsyncIterable[scheduler_pb2.ScheduleStreamRequest], context: StreamContext
    ) -> None:
        send = await open_writer(context)

        def write(answer: Answer) -> Awaitable[None]:
            return send(answer_to_wire(answer, self._kind))

        await self._desk.stream(_questions(request_iterator), write)

    async def GetClusterState(
        self, request: scheduler_pb2.GetClusterStateRequest, context: StateContext
    ) -> scheduler_pb2.GetClusterStateResponse:
        return self._state(self._desk.state())

    async def WatchClusterState(  # type: ignore[override]  # a coroutine, not a generator: see `streams`
        self, request: scheduler_pb2.WatchClusterStateRequest, context: WatchContext
    ) -> None:
        interval_s = watch_interval(request.interval_s)
        send = await open_writer(context)

        def write(known: Knowledge) -> Awaitable[None]:
            return send(scheduler_pb2.WatchClusterStateResponse(state=self._state(known)))

        await self._desk.watch(interval_s, write)

    async def ExplainDecision(
        self, request: scheduler_pb2.ExplainDecisionRequest, context: ExplainContext
    ) -> scheduler_pb2.ExplainDecisionResponse:
        records = self._desk.explain(explained_from_wire(request))
        wall_offset_s = time.time() - self._desk.now
        return scheduler_pb2.ExplainDecisionResponse(
            records=[record_to_wire(record, self._kind, wall_offset_s=wall_offset_s) for record in records]
        )

    def _state(self, known: Knowledge) -> scheduler_pb2.GetClusterStateResponse:
        return cluster_state_to_wire(known.view, known.placer, known.now, self._kind)


async def _questions(messages: AsyncIterable[scheduler_pb2.ScheduleStreamRequest]) -> AsyncIterator[Question]:
    with refusing_garbage():
        async for message in messages:
            yield question_from_wire(message)
