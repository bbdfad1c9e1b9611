"""The members as an operator sees them: what the node believes of each, what each tells of its worker, and this sidecar itself."""

from __future__ import annotations

from dataclasses import dataclass

from roost.gossip.protocol.events import Peer
from roost.gossip.protocol.messages import Status
from roost.gossip.protocol.node import Node
from roost.gossip.record_format import grpc_address, presence_of
from roost.service.addresses import join
from roost.v1 import gossip_pb2

_STATUSES = {
    Status.ALIVE: gossip_pb2.MEMBER_STATUS_ALIVE,
    Status.SUSPECT: gossip_pb2.MEMBER_STATUS_SUSPECT,
    Status.DEAD: gossip_pb2.MEMBER_STATUS_DEAD,
    Status.LEFT: gossip_pb2.MEMBER_STATUS_LEFT,
}


@dataclass(frozen=True, slots=True)
class Roster:
    """Reads the node; owns nothing."""

    node: Node[bytes]
    cluster: str

    def peers(self) -> list[Peer]:
        """Every member, this one included, ordered by name."""
        me = self.node.identity
        status = Status.LEFT if me.is_leaving else Status.ALIVE
        own = Peer(me.name, me.address, me.epoch, me.incarnation, status)
        return sorted((own, *self.node.peers()), key=lambda peer: peer.name)

    def to_wire(self, now: float) -> gossip_pb2.GetMembersResponse:
        return gossip_pb2.GetMembersResponse(members=[self._member(peer, now) for peer in self.peers()], cluster=self.cluster)

    def _member(self, peer: Peer, now: float) -> gossip_pb2.Member:
        records = self.node.keys_of(peer.name)
        _, age_s = self.node.load_of(peer.name, now) or (None, 0.0)
        return gossip_pb2.Member(
            node_id=peer.name,
            address=join(*peer.address),
            status=_STATUSES[peer.status],
            epoch=peer.epoch,
            incarnation=peer.incarnation,
            grpc_address=grpc_address(records),
            worker=presence_of(records),
            age_s=age_s,
            is_self=peer.name == self.node.identity.name,
        )
