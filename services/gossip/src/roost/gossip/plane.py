"""The gossip plane: what the node says is noted for the decider, and logged; what our own worker says is a fact at once.

State: the watchers of the members.
"""

from __future__ import annotations

from typing import Final

from roost.gossip.core.local_view import LocalView
from roost.gossip.protocol.events import ClusterJoined, ColdChanged, EpochRaised, Event, Happening, MemberChanged, NameConflict
from roost.gossip.protocol.node import Node
from roost.placement.facts import Fact, Stopping, TimePassed
from roost.service.addresses import join
from roost.service.logs import Logger
from roost.service.scheduler.shell import DeciderShell
from roost.service.scheduler.watching import Changes

NAME: Final = "this sidecar"
_WARNED: Final = {Happening.SUSPECTED, Happening.DIED}


class GossipPlane:
    """Must be used from one event loop."""

    def __init__(self, shell: DeciderShell, local: LocalView, node: Node[bytes], *, log: Logger) -> None:
        self.shell = shell
        self.local = local
        self.member_changes = Changes()
        self.members_version = 0
        self._node = node
        self._log = log
        shell.refresh = local.refresh

    def heard(self, event: Event, now: float) -> None:
        """The node says that something happened. Whoever waits for a worker is told at once, and else whoever asks next."""
        self.local.happened(event)
        self._tell(event)
        if isinstance(event, MemberChanged | ColdChanged):
            self.members_version += 1
            self.member_changes.announce()
        if self.shell.has_waiting:
            self.local.refresh(now)
        self.shell.changes.announce()

    def own(self, fact: Fact) -> bool:
        """Our own worker said something, or was found to be away. False if that was known, or is past."""
        is_new = self.shell.hear(fact)
        self.shell.changes.announce()
        return is_new

    def advance(self) -> None:
        """Lets the time that has passed take effect."""
        now = self.shell.now
        self.local.forget_pruned((peer.name for peer in self._node.peers()), self._node.identity.name, now)
        self.shell.hear(TimePassed(), now)
        self.shell.changes.announce()

    def stop(self) -> None:
        """Refuses whoever waits for a worker."""
        self.shell.hear(Stopping(NAME))
        self.shell.close()

    def _tell(self, event: Event) -> None:
        match event:
            case MemberChanged(happening, member):
                tell = self._log.warning if happening in _WARNED else self._log.info
                tell(f"member_{happening.value}", node_id=member.name, address=join(*member.address), epoch=member.epoch)
            case NameConflict(name, holder, claimant):
                self._log.warning("name_conflict", node_id=name, holder=join(*holder), claimant=join(*claimant))
            case EpochRaised(epoch):
                self._log.info("epoch_raised", epoch=epoch)
            case ClusterJoined(seed):
                self._log.info("cluster_joined", seed=join(*seed))
            case _:
                pass
