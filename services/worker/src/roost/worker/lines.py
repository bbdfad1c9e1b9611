"""The two kinds of peer that a worker reports to, and how the same is said on a stream to each: reports and results up, commands down."""

from __future__ import annotations

import grpc

from roost.v1 import coordinator_pb2, coordinator_pb2_grpc, gossip_pb2, gossip_pb2_grpc, messages_pb2
from roost.worker.obedience import Obedience

CoordinatorCall = grpc.aio.StreamStreamCall[coordinator_pb2.ConnectRequest, coordinator_pb2.ConnectResponse]
SidecarCall = grpc.aio.StreamStreamCall[gossip_pb2.PublishRequest, gossip_pb2.PublishResponse]


class CoordinatorLine:
    """`roost.v1.Coordinator.Connect`."""

    name = "coordinator"
    down = coordinator_pb2.ConnectResponse

    def __init__(self, obedience: Obedience) -> None:
        self._obedience = obedience

    def open(self, channel: grpc.aio.Channel) -> CoordinatorCall:
        return coordinator_pb2_grpc.CoordinatorStub(channel).Connect()

    def report(self, report: messages_pb2.WorkerLoadReport) -> coordinator_pb2.ConnectRequest:
        return coordinator_pb2.ConnectRequest(report=report)

    def takes_changes(self, welcome: coordinator_pb2.ConnectResponse) -> bool:
        return welcome.welcome.takes_changes

    async def obey(self, message: coordinator_pb2.ConnectResponse) -> coordinator_pb2.ConnectRequest | None:
        """Carries a command out and answers it; a welcome asks for nothing."""
        if not message.HasField("command"):
            return None
        return coordinator_pb2.ConnectRequest(result=await self._obedience.carry_out(message.command))


class SidecarLine:
    """`roost.v1.Gossip.Publish`."""

    name = "sidecar"
    down = gossip_pb2.PublishResponse

    def __init__(self, obedience: Obedience) -> None:
        self._obedience = obedience

    def open(self, channel: grpc.aio.Channel) -> SidecarCall:
        return gossip_pb2_grpc.GossipStub(channel).Publish()

    def report(self, report: messages_pb2.WorkerLoadReport) -> gossip_pb2.PublishRequest:
        return gossip_pb2.PublishRequest(report=report)

    def takes_changes(self, welcome: gossip_pb2.PublishResponse) -> bool:
        return welcome.takes_changes

    async def obey(self, message: gossip_pb2.PublishResponse) -> gossip_pb2.PublishRequest | None:
        """Carries a command out and answers it; a welcome asks for nothing."""
        if not message.HasField("command"):
            return None
        return gossip_pb2.PublishRequest(result=await self._obedience.carry_out(message.command))
