"""How a sidecar reaches workers: its own by the stream that it holds, every other one by that worker's sidecar.

A command goes from one sidecar to another at most: `Gossip.CommandWorker` is answered by the sidecar's own worker or refused. State: how
many commands are with other sidecars now.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import grpc

from roost.cluster.errors import NoCapacity, RoostError, WorkerUnreachable
from roost.cluster.view import ClusterView
from roost.gossip.own_worker import OwnWorker
from roost.gossip.plane import GossipPlane
from roost.gossip.record_format import grpc_address
from roost.service.channels import open_channel
from roost.service.errors import RemoteError, from_rpc_error
from roost.service.operating.codec import command_to_wire, result_from_wire
from roost.service.operating.commands import Action, Cancel, Command, CommandResult, Drain, LoadModel, UnpinModel
from roost.service.operating.streams import CommandIds
from roost.service.startup import CannotStart
from roost.service.tls import TlsFiles, channel_credentials
from roost.v1 import gossip_pb2, gossip_pb2_grpc

MAX_ABROAD: Final = 256  # commands with other sidecars at once, a connection each: a quarter of the file descriptors that systems allow
SHOWN_S: Final = 2.0  # for what a command did to come round to this sidecar's view: gossip takes under a second in most clusters


class Spread(Protocol):
    """What the gossip node knows of others."""

    def keys_of(self, name: str) -> Mapping[str, bytes]: ...


@dataclass(frozen=True, slots=True)
class OtherSidecars:
    """Where the other sidecars serve gRPC, by what they tell of themselves, and how they are spoken to.

    Raises CannotStart if a TLS file cannot be used.
    """

    spread: Spread
    tls: TlsFiles | None

    def __post_init__(self) -> None:
        if self.tls is not None:
            channel_credentials(self.tls)

    def address(self, worker_id: str) -> str:
        """HOST:PORT of the sidecar of that worker; empty if it has not told."""
        return grpc_address(self.spread.keys_of(worker_id))


class SidecarReach:
    """Must be used from one event loop."""

    def __init__(self, own: OwnWorker, others: OtherSidecars, plane: GossipPlane, *, ids: CommandIds) -> None:
        self._own = own
        self._others = others
        self._plane = plane
        self._ids = ids
        self._turns = asyncio.Semaphore(MAX_ABROAD)

    def __contains__(self, worker_id: object) -> bool:
        if worker_id == self._own.node_id:
            return self._own.has_stream
        return isinstance(worker_id, str) and bool(self._others.address(worker_id))

    async def command(self, worker_id: str, action: Action, timeout_s: float) -> CommandResult:
        """What the worker answers; what it did is in this sidecar's view then, or soon.

        Raises NoCapacity (too many under way), WorkerUnreachable (which names the sidecar that could not be reached).
        """
        if worker_id == self._own.node_id:
            result = await self._own.command(action, timeout_s)
        else:
            result = await self._abroad(worker_id, action, timeout_s)
        if not result.code:
            await self._until_shown(worker_id, action)
        return result

    async def _abroad(self, worker_id: str, action: Action, timeout_s: float) -> CommandResult:
        address = self._others.address(worker_id)
        if not address:
            raise WorkerUnreachable(worker_id, "its sidecar has not told where it serves gRPC, so commands cannot be sent to it")
        command = Command(self._ids.next_id(), action)
        try:
            async with asyncio.timeout(timeout_s), self._turns:
                return await self._ask(address, worker_id, command, timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _refusal(worker_id, address, action, error) from error
        except CannotStart as error:  # a TLS file that could be used at the start
            raise WorkerUnreachable(worker_id, f"its sidecar at {address} cannot be called: {error}") from error
        except TimeoutError:
            raise WorkerUnreachable(worker_id, f"it did not answer {action.kind} within {timeout_s:.3g} s") from None

    async def _ask(self, address: str, worker_id: str, command: Command, timeout_s: float) -> CommandResult:
        """On a channel of its own: operators ask seldom, and no call waits for the pauses of an earlier one to the same address."""
        request = gossip_pb2.CommandWorkerRequest(worker_id=worker_id, command=command_to_wire(command))
        async with open_channel(address, tls=self._others.tls, has_retries=False) as channel:
            answer = await gossip_pb2_grpc.GossipStub(channel).CommandWorker(request, timeout=timeout_s)
        return result_from_wire(answer.result)

    async def _until_shown(self, worker_id: str, action: Action) -> None:
        """So that whoever asks this sidecar next is answered by what the command did."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHOWN_S):
                await self._plane.shell.changes.until(lambda: _shows(self._plane.shell.view, worker_id, action))


def _shows(view: ClusterView, worker_id: str, action: Action) -> bool:
    """Whether the view has what the action did; also true of a worker that is not known (any more)."""
    entry = view.entries.get(worker_id)
    if entry is None:
        return True
    if isinstance(action, Drain):
        return entry.state.is_draining is not action.is_resume
    if isinstance(action, LoadModel):
        status = entry.state.models.get(action.model)
        return status is not None and status.is_ready and (status.is_pinned or not action.is_pinned)
    if isinstance(action, UnpinModel):
        status = entry.state.models.get(action.model)
        return status is None or not status.is_pinned
    return isinstance(action, Cancel) or action.model not in entry.state.models


def _refusal(worker_id: str, address: str, action: Action, error: grpc.aio.AioRpcError) -> RoostError:
    """What the other sidecar said, or that it could not be reached."""
    refusal = from_rpc_error(error)
    if isinstance(refusal, WorkerUnreachable | NoCapacity):
        return refusal
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return WorkerUnreachable(worker_id, f"its sidecar at {address} is of a version that carries out no commands; update it")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return WorkerUnreachable(worker_id, f"it did not answer {action.kind} in time, nor did its sidecar at {address}")
    why = (error.details() or error.code().name).rpartition("last error: ")[2] if isinstance(refusal, RemoteError) else str(refusal)
    return WorkerUnreachable(worker_id, f"its sidecar at {address} did not carry it out: {why}")
