"""`roost.v1.Gossip`: the worker's stream, commands for it, the members, and an operator's wishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace

from grpc import aio

from roost.cluster.errors import InvalidField
from roost.cluster.worker_state import WorkerState
from roost.gossip.operator import Operator
from roost.gossip.own_worker import OwnWorker
from roost.gossip.plane import GossipPlane
from roost.service.operating.codec import command_from_wire, command_to_wire, result_from_wire, result_to_wire
from roost.service.operating.commands import Command
from roost.service.operating.serving import Upward, first_report, serve_stream
from roost.service.report_changes import ReportReader
from roost.service.scheduler.codec import watch_interval
from roost.service.streams import StopSignal, Write, open_writer, refusing_garbage, stream_tasks
from roost.v1 import gossip_pb2, gossip_pb2_grpc

PublishContext = aio.ServicerContext[gossip_pb2.PublishRequest, gossip_pb2.PublishResponse]
CommandContext = aio.ServicerContext[gossip_pb2.CommandWorkerRequest, gossip_pb2.CommandWorkerResponse]
WatchContext = aio.ServicerContext[gossip_pb2.WatchMembersRequest, gossip_pb2.WatchMembersResponse]
Context = aio.ServicerContext[object, object]


class GossipServicer(gossip_pb2_grpc.GossipServicer):
    """Hands what is the worker's to `worker`, and everything else to `operator`.

    `command_timeout_s` holds for commands whose sender sets no deadline.
    """

    def __init__(self, plane: GossipPlane, worker: OwnWorker, operator: Operator, *, command_timeout_s: float, stop: StopSignal) -> None:
        self._plane = plane
        self._worker = worker
        self._operator = operator
        self._command_timeout_s = command_timeout_s
        self._stop = stop

    async def Publish(  # type: ignore[override]  # a coroutine, not a generator: see `roost.service.streams`
        self, request_iterator: AsyncIterable[gossip_pb2.PublishRequest], context: PublishContext
    ) -> None:
        messages = _upward(request_iterator)
        first = await first_report(messages)
        if first is None:
            return
        stream = self._worker.open(first)
        welcome = gossip_pb2.PublishResponse(sidecar_epoch=self._operator.epoch, dead_after_s=self._worker.dead_after_s, takes_changes=True)

        def report(state: WorkerState) -> None:
            self._worker.report(state, stream)

        try:
            send = await open_writer(context)

            async def write(message: gossip_pb2.PublishResponse | Command) -> None:
                await send(gossip_pb2.PublishResponse(command=command_to_wire(message)) if isinstance(message, Command) else message)

            await serve_stream(stream, messages, write, welcome=welcome, report=report, stop=self._stop)
        finally:
            self._worker.close(stream)

    async def CommandWorker(self, request: gossip_pb2.CommandWorkerRequest, context: CommandContext) -> gossip_pb2.CommandWorkerResponse:
        own = self._worker.node_id
        if request.worker_id != own:
            raise InvalidField(
                "worker_id", f"must be {own}, the worker of this sidecar (got {request.worker_id}); commands are not passed on"
            )
        command, remaining_s = command_from_wire(request.command), context.time_remaining()
        result = await self._worker.command(command.action, self._command_timeout_s if remaining_s is None else remaining_s)
        return gossip_pb2.CommandWorkerResponse(result=result_to_wire(replace(result, command_id=command.command_id)))

    async def GetMembers(self, request: gossip_pb2.GetMembersRequest, context: Context) -> gossip_pb2.GetMembersResponse:
        return self._operator.members(self._plane.shell.now)

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
            await write(gossip_pb2.WatchMembersResponse(state=self._operator.members(plane.shell.now)))
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


async def _upward(requests: AsyncIterable[gossip_pb2.PublishRequest]) -> AsyncIterator[Upward]:
    reports = ReportReader()
    with refusing_garbage():
        async for request in requests:
            yield result_from_wire(request.result) if request.HasField("result") else reports.read(request.report)
