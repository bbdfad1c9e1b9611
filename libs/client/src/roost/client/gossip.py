"""What a client may ask of sidecars besides scheduling: who is in the cluster, and the keys of each."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2

from roost.client.caller import ClusterCaller
from roost.client.channels import ChannelCache
from roost.client.targets import TargetOrder, parse_targets
from roost.cluster.errors import NotServedHere, RoostError
from roost.service.channels import open_channel
from roost.service.errors import RemoteError
from roost.service.tls import TlsFiles
from roost.v1 import gossip_pb2
from roost.v1.gossip_pb2_grpc import GossipStub

DEFAULT_SIDECAR = "127.0.0.1:7846"
_OTHERS = (
    (
        "roost.v1.Coordinator",
        "this is a coordinator: it has workers, which `roost state` shows, and no members",
        "ask a sidecar, with --coordinator HOST:PORT",
    ),
    ("roost.v1.Worker", "this is a worker", "ask its sidecar, with --coordinator HOST:PORT"),
)
WATCH_CALL_S = 300.0  # one watching call lives this long and is followed by the next


class MemberStatus(enum.Enum):
    """What a sidecar believes of a member's life."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    UNKNOWN = "unknown"


class WorkerPresence(enum.Enum):
    """What a sidecar says of its own worker."""

    NONE = "none"
    HERE = "here"
    AWAY = "away"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class MemberSnapshot:
    """One member. `age_s`: seconds since its worker's load was written down; `grpc_address` is empty where it was not heard of yet."""

    node_id: str
    address: str
    status: MemberStatus
    epoch: int
    incarnation: int
    grpc_address: str
    worker: WorkerPresence
    age_s: float
    is_self: bool


@dataclass(frozen=True, slots=True)
class Membership:
    """The members as one sidecar knows them, ordered by name."""

    cluster: str
    members: tuple[MemberSnapshot, ...]


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """One key of a sidecar, by its name."""

    key_id: str
    is_in_use: bool


_STATUSES = {
    gossip_pb2.MEMBER_STATUS_ALIVE: MemberStatus.ALIVE,
    gossip_pb2.MEMBER_STATUS_SUSPECT: MemberStatus.SUSPECT,
    gossip_pb2.MEMBER_STATUS_DEAD: MemberStatus.DEAD,
    gossip_pb2.MEMBER_STATUS_LEFT: MemberStatus.LEFT,
}
_PRESENCES = {
    gossip_pb2.WORKER_PRESENCE_HERE: WorkerPresence.HERE,
    gossip_pb2.WORKER_PRESENCE_AWAY: WorkerPresence.AWAY,
    gossip_pb2.WORKER_PRESENCE_GONE: WorkerPresence.GONE,
}


def _health_check(
    channel: grpc.aio.Channel,
) -> grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]:
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )


class GossipClient:
    """Calls sidecars. Use it as an async context manager. `targets` as for `RoostClient`; errors too."""

    def __init__(self, targets: Sequence[str] | str = DEFAULT_SIDECAR, *, timeout_s: float = 10.0, tls: TlsFiles | None = None) -> None:
        self._timeout_s = timeout_s
        self._channels = ChannelCache(lambda address: open_channel(address, tls=tls))
        self._caller = ClusterCaller(TargetOrder(parse_targets(targets)), self._channels)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes every channel."""
        await self._channels.close()

    async def members(self) -> Membership:
        """The members as the first target that answers knows them. Raises ClusterUnreachable, NotServedHere for another process."""
        request = gossip_pb2.GetMembersRequest()
        try:
            found = await self._caller.call(lambda channel: GossipStub(channel).GetMembers, request, timeout_s=self._timeout_s)
        except RemoteError as error:
            if error.code is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            raise await self._what_answers(error) from error
        return membership_from_wire(found)

    async def _what_answers(self, error: RemoteError) -> RoostError:
        """Which other process of ours is there instead of a sidecar; `error` itself where it is none."""
        for service, what, fix in _OTHERS:
            with suppress(RoostError):
                request = health_pb2.HealthCheckRequest(service=service)
                await self._caller.call(_health_check, request, timeout_s=self._timeout_s)
                return NotServedHere(what, fix)
        return error

    async def watch_members(self, interval_s: float = 1.0) -> AsyncGenerator[Membership, None]:
        """The members at once and whenever they have changed, at most once in `interval_s` (0.05-60). Raises ClusterUnreachable."""
        request = gossip_pb2.WatchMembersRequest(interval_s=interval_s)
        while True:
            answers = self._caller.stream(lambda channel: GossipStub(channel).WatchMembers, request, timeout_s=WATCH_CALL_S)
            async with aclosing(answers):
                async for answer in answers:
                    yield membership_from_wire(answer.state)

    async def keys(self) -> tuple[KeySnapshot, ...]:
        """The names of the keys, the one in use first; empty if the cluster is not encrypted."""
        wire = await self._caller.call(
            lambda channel: GossipStub(channel).ListKeys, gossip_pb2.ListKeysRequest(), timeout_s=self._timeout_s
        )
        return tuple(KeySnapshot(key.key_id, key.in_use) for key in wire.keys)

    async def install_key(self, key: bytes) -> bool:
        """Whether the key was also saved in the sidecar's file. Raises InvalidField."""
        request = gossip_pb2.InstallKeyRequest(key=key)
        return (await self._caller.call(lambda channel: GossipStub(channel).InstallKey, request, timeout_s=self._timeout_s)).saved

    async def use_key(self, key_id: str) -> bool:
        """Whether it was also saved. Raises InvalidField."""
        request = gossip_pb2.UseKeyRequest(key_id=key_id)
        return (await self._caller.call(lambda channel: GossipStub(channel).UseKey, request, timeout_s=self._timeout_s)).saved

    async def remove_key(self, key_id: str) -> bool:
        """Whether it was also saved. Raises InvalidField."""
        request = gossip_pb2.RemoveKeyRequest(key_id=key_id)
        return (await self._caller.call(lambda channel: GossipStub(channel).RemoveKey, request, timeout_s=self._timeout_s)).saved


def membership_from_wire(wire: gossip_pb2.GetMembersResponse) -> Membership:
    return Membership(wire.cluster, tuple(map(_member_from_wire, wire.members)))


def _member_from_wire(wire: gossip_pb2.Member) -> MemberSnapshot:
    return MemberSnapshot(
        node_id=wire.node_id,
        address=wire.address,
        status=_STATUSES.get(wire.status, MemberStatus.UNKNOWN),
        epoch=wire.epoch,
        incarnation=wire.incarnation,
        grpc_address=wire.grpc_address,
        worker=_PRESENCES.get(wire.worker, WorkerPresence.NONE),
        age_s=wire.age_s,
        is_self=wire.is_self,
    )
