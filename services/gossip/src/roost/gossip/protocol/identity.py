"""Who this node is: the one row of the cluster that only this node writes.

Invariants: (epoch, incarnation) never decreases; a node that is leaving does not refute, and one that has left does nothing at all.
"""

from __future__ import annotations

from roost.gossip.protocol.config import MAX_EPOCH, Address
from roost.gossip.protocol.membership import owner_id
from roost.gossip.protocol.messages import Alive, Left, MemberEntry, Status

MAX_INCARNATION = 2**32 - 1


class Identity:
    """This node's name, address, epoch and incarnation."""

    def __init__(self, name: str, address: Address, epoch: int) -> None:
        self.name = name
        self.address = address
        self.epoch = epoch
        self.incarnation = 0
        self.owner = owner_id(name, epoch)
        self.is_leaving = False
        self.has_left = False

    def outbid(self, incarnation: int) -> None:
        """max(own, accused) + 1."""
        self.incarnation = min(MAX_INCARNATION, max(self.incarnation, incarnation) + 1)

    def be_reborn(self, epoch: int) -> None:
        """Begin a new life in the same process."""
        self.epoch = min(MAX_EPOCH, epoch)
        self.incarnation = 0
        self.owner = owner_id(self.name, self.epoch)

    def alive(self) -> Alive:
        return Alive(self.name, self.address, self.epoch, self.incarnation)

    def left(self) -> Left:
        return Left(self.name, self.epoch, self.incarnation)

    def entry(self) -> MemberEntry:
        status = Status.LEFT if self.is_leaving else Status.ALIVE
        return MemberEntry(self.name, self.address, self.epoch, self.incarnation, status)

    def __repr__(self) -> str:
        return f"<{self.name} e{self.epoch} i{self.incarnation}{' leaving' if self.is_leaving else ''}>"
