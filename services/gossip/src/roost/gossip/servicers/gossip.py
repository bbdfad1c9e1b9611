"""`roost.v1.Gossip`: the worker's stream, the members, and an operator's wishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

from grpc import aio

from roost.cluster.errors import InvalidField
from roost.cluster.worker_state import WorkerState
from roost.gossip.operator import Operator
from roost.gossip.own_worker import OwnWorker
from roost.gossip.plane import GossipPlane
from roost.service.codec import state_from_wire
from roost.service.scheduler.codec import watch_interval
from roost.service.streams import StopSignal, Write, open_writer, refusing_garbage, stream_tasks
from roost.v1 import gossip_pb2, gossip_pb2_grpc

FIRST_REPORT_S = 10.0  # a worker sends it as it connects; a stream without one is not a worker's

PublishContext = aio.ServicerContext[gossip_pb2.PublishRequest, gossip_pb2.PublishResponse]
WatchContext = aio.ServicerContext[gossip_pb2.WatchMembersRequest, gossip_pb2.WatchMembersResponse]
Context = aio.ServicerContext[object, object]


class GossipServicer(gossip_pb2_grpc.GossipServicer):
    """Hands the worker's reports to `worker`, and everything else to `operator`."""

    def __init__(self, plane: GossipPlane, worker: OwnWorker, operator: Operator, *, stop: StopSignal) -> None:
        self._plane = plane
        self._worker = worker
        self._operator = operator
        self._stop = stop

    async def Publish(  # type: ignore[override]  # a coroutine, not a generator: see `roost.service.streams`
        self, request_iterator: AsyncIterable[gossip_pb2.PublishRequest], context: PublishContext
    ) -> None:
        reports = _reports(request_iterator)
        first = await _first(reports)
        if first is None:
            return
        stream = self._worker.open(first)
        try:
            async with stream_tasks() as tasks:
                companions = (stream.refuse_when_ended(), self._stop.refuse_when_set())
                running = [tasks.create_task(companion) for companion in companions]
                await (await open_writer(context))(self._welcome())
                async for state in reports:
                    self._worker.report(state, stream)
                for task in running:
                    task.cancel()
        finally:
            self._worker.close(stream)

    def _welcome(self) -> gossip_pb2.PublishResponse:
        return gossip_pb2.PublishResponse(sidecar_epoch=self._operator.epoch, dead_after_s=self._worker.dead_after_s)

    async def GetMembers(self, request: gossip_pb2.GetMembersRequest, context: Context) -> gossip_pb2.GetMembersResponse:
        return self._operator.members(self._plane.now)

    async def WatchMembers(  # type: ignore[override]  # a coroutine, not a generator: see `roost.service.streams`
        self, request: gossip_pb2.WatchMembersRequest, context: WatchContext
    ) -> None:
        interval_s = watch_interval(request.interval_s)
        async with stream_tasks() as tasks:
            with self._plane.member_changes.watching():
                tasks.create_task(self._stop.refuse_when_set())
                await self._watch(interval_s, await open_writer(context))

    async def _watch(self, interval_s: float, write: Write[gossip_pb2.WatchMembersResponse]) -> None:
        plane = self._plane
        while True:
            version = plane.members_version
            await write(gossip_pb2.WatchMembersResponse(state=self._operator.members(plane.now)))
            await asyncio.sleep(interval_s)
            await plane.member_changes.until(lambda version=version: plane.members_version != version)  # type: ignore[misc]

    async def Join(self, request: gossip_pb2.JoinRequest, context: Context) -> gossip_pb2.JoinResponse:
        self._operator.join(request.seeds)
        return gossip_pb2.JoinResponse()

    async def Leave(self, request: gossip_pb2.LeaveRequest, context: Context) -> gossip_pb2.LeaveResponse:
        self._operator.leave()
        return gossip_pb2.LeaveResponse()

    async def ListKeys(self, request: gossip_pb2.ListKeysRequest, context: Context) -> gossip_pb2.ListKeysResponse:
        keys = [gossip_pb2.KeyView(key_id=name.key_id, in_use=name.is_in_use) for name in self._operator.keys.names()]
        return gossip_pb2.ListKeysResponse(keys=keys)

    async def InstallKey(self, request: gossip_pb2.InstallKeyRequest, context: Context) -> gossip_pb2.InstallKeyResponse:
        key_id, saved = self._operator.keys.install(request.key)
        return gossip_pb2.InstallKeyResponse(key_id=key_id, saved=saved)

    async def UseKey(self, request: gossip_pb2.UseKeyRequest, context: Context) -> gossip_pb2.UseKeyResponse:
        return gossip_pb2.UseKeyResponse(saved=self._operator.keys.use(request.key_id))

    async def RemoveKey(self, request: gossip_pb2.RemoveKeyRequest, context: Context) -> gossip_pb2.RemoveKeyResponse:
        return gossip_pb2.RemoveKeyResponse(saved=self._operator.keys.remove(request.key_id))


async def _reports(requests: AsyncIterable[gossip_pb2.PublishRequest]) -> AsyncIterator[WorkerState]:
    with refusing_garbage():
        async for request in requests:
            yield state_from_wire(request.report)


async def _first(reports: AsyncIterator[WorkerState]) -> WorkerState | None:
    """The first report, or None if the worker left without one. Raises InvalidField."""
    try:
        async with asyncio.timeout(FIRST_REPORT_S):
            return await anext(reports, None)
    except TimeoutError:
        raise InvalidField("report", f"the first one did not come within {FIRST_REPORT_S:g} s") from None
