"""The other end of a worker's stream to its sidecar: it welcomes and keeps what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc

from roost.v1 import coordinator_pb2, gossip_pb2, gossip_pb2_grpc, state_pb2

DEADLINE_S = 10.0


class TinySidecar(gossip_pb2_grpc.GossipServicer):
    """`reports` and `results` of all streams together; `is_ended` once a stream was ended by its worker."""

    def __init__(self) -> None:
        self.reports: list[state_pb2.WorkerLoadReport] = []
        self.results: list[coordinator_pb2.CommandResult] = []
        self.is_ended = False
        self.takes_changes = False
        self._commands: asyncio.Queue[coordinator_pb2.Command | None] = asyncio.Queue()
        self._changed = asyncio.Event()

    async def Publish(
        self, request_iterator: AsyncIterator[gossip_pb2.PublishRequest], context: object
    ) -> AsyncIterator[gossip_pb2.PublishResponse]:
        before = len(self.reports)
        reading = asyncio.ensure_future(self._read(request_iterator))
        try:
            await self.until(lambda: len(self.reports) > before)
            yield gossip_pb2.PublishResponse(sidecar_epoch=1, dead_after_s=10, takes_changes=self.takes_changes)
            while (command := await self._commands.get()) is not None:
                yield gossip_pb2.PublishResponse(command=command)
        finally:
            reading.cancel()

    async def _read(self, requests: AsyncIterator[gossip_pb2.PublishRequest]) -> None:
        async for request in requests:
            if request.HasField("result"):
                self.results.append(request.result)
            else:
                self.reports.append(request.report)
            self._changed.set()
        self.is_ended = True
        self._changed.set()
        self._commands.put_nowait(None)

    async def command(self, **action: object) -> coordinator_pb2.CommandResult:
        """Sends a command and returns its result."""
        command_id = f"command-{len(self.results) + 1}"
        self._commands.put_nowait(coordinator_pb2.Command(command_id=command_id, **action))  # type: ignore[arg-type]
        await self.until(lambda: any(result.command_id == command_id for result in self.results))
        return self.results[-1]

    def outcomes(self) -> list[str]:
        return [outcome.decision_id for report in self.reports for outcome in report.outcomes]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def CommandWorker(self, request: gossip_pb2.CommandWorkerRequest, context: object) -> gossip_pb2.CommandWorkerResponse:
        raise NotImplementedError

    async def GetMembers(self, request: gossip_pb2.GetMembersRequest, context: object) -> gossip_pb2.GetMembersResponse:
        raise NotImplementedError

    async def Join(self, request: gossip_pb2.JoinRequest, context: object) -> gossip_pb2.JoinResponse:
        raise NotImplementedError

    async def Leave(self, request: gossip_pb2.LeaveRequest, context: object) -> gossip_pb2.LeaveResponse:
        raise NotImplementedError

    async def ListKeys(self, request: gossip_pb2.ListKeysRequest, context: object) -> gossip_pb2.ListKeysResponse:
        raise NotImplementedError

    async def InstallKey(self, request: gossip_pb2.InstallKeyRequest, context: object) -> gossip_pb2.InstallKeyResponse:
        raise NotImplementedError

    async def UseKey(self, request: gossip_pb2.UseKeyRequest, context: object) -> gossip_pb2.UseKeyResponse:
        raise NotImplementedError

    async def RemoveKey(self, request: gossip_pb2.RemoveKeyRequest, context: object) -> gossip_pb2.RemoveKeyResponse:
        raise NotImplementedError

    def WatchMembers(self, request: gossip_pb2.WatchMembersRequest, context: object) -> AsyncIterator[gossip_pb2.WatchMembersResponse]:
        raise NotImplementedError


@asynccontextmanager
async def sidecar_listening(port: int = 0) -> AsyncIterator[tuple[TinySidecar, str]]:
    """A sidecar on loopback, and its address. Leaving breaks every stream at once."""
    sidecar = TinySidecar()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    gossip_pb2_grpc.add_GossipServicer_to_server(sidecar, server)
    taken = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield sidecar, f"127.0.0.1:{taken}"
    finally:
        await server.stop(0)
