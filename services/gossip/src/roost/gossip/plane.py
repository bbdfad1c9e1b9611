"""The gossip plane as its doors see it: the local view with a clock, counted and logged from outside.

State: besides what a scheduling plane has, the watchers of the members.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from roost.gossip.local_view import LocalView
from roost.gossip.protocol.events import ClusterJoined, ColdChanged, EpochRaised, Event, Happening, MemberChanged, NameConflict
from roost.gossip.protocol.node import Node
from roost.placement.recording.recorded import Journal
from roost.service.addresses import join
from roost.service.logs import Logger
from roost.service.scheduler.metrics import DecisionMetrics
from roost.service.scheduler.plane import Clock, SchedulingPlane
from roost.service.scheduler.watching import Changes

NAME: Final = "this sidecar"
_WARNED: Final = {Happening.SUSPECTED, Happening.DIED}


class GossipPlane(SchedulingPlane):
    """Must be used from one event loop. `copy` has a worker load a model for those who wait."""

    def __init__(  # noqa: PLR0913 - what the doors of a plane need, each from another room
        self,
        local: LocalView,
        node: Node[bytes],
        *,
        clock: Clock,
        metrics: DecisionMetrics,
        log: Logger,
        copy: Callable[[str, str], None] | None = None,
        journal: Journal | None = None,
    ) -> None:
        super().__init__(local, name=NAME, clock=clock, metrics=metrics, copy=copy, journal=journal)
        self.local = local
        self.member_changes = Changes()
        self.members_version = 0
        self._node = node
        self._log = log

    def heard(self, event: Event, now: float) -> None:
        """The node says that something happened."""
        is_urgent = self.local.happened(event)
        self._tell(event)
        if isinstance(event, MemberChanged | ColdChanged):
            self.members_version += 1
            self.member_changes.announce()
        if is_urgent and self.has_waiting:
            self._admit(now)
        self.changes.announce()

    def advance(self) -> None:
        """Lets the time that has passed take effect."""
        now = self.now
        if self.has_waiting:
            self._admit(now)
        self.local.opened()
        self.local.forget_pruned((peer.name for peer in self._node.peers()), self._node.identity.name)
        self.changes.announce()

    def worker_changed(self, worker_id: str) -> None:
        """Our own worker said something."""
        self.admit_to(worker_id)
        self.changes.announce()

    def _admit(self, now: float) -> None:
        """Those who wait for a worker are decided where one has become available."""
        self.local.refresh(now)
        for worker_id in self.local.opened():
            self.admit_to(worker_id)

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
