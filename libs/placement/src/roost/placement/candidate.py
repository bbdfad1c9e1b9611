"""One worker that may get new work, and the group of those that can load the same models."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from roost.cluster.view import WorkerEntry
from roost.placement.reservations import Tally


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What the members can load: `loadable`, and where `is_open` (no catalogue was sent) all that fits into `capacity_bytes`."""

    loadable: frozenset[str]
    is_open: bool = False
    capacity_bytes: int = 0


class Group:
    """Candidates that can load the same models. Changed by the fleet; compared by identity."""

    __slots__ = ("capacity_bytes", "is_open", "key", "loadable", "members", "outstanding")

    def __init__(self, key: GroupKey) -> None:
        self.key = key
        self.loadable = key.loadable
        self.is_open = key.is_open
        self.capacity_bytes = key.capacity_bytes
        self.members: list[Candidate] = []  # in no order that means anything
        self.outstanding = 0  # requests waiting, running and reserved on all members

    def add(self, candidate: Candidate) -> None:
        candidate.group = self
        candidate.position = len(self.members)
        self.members.append(candidate)
        self.outstanding += candidate.outstanding

    def remove(self, candidate: Candidate) -> None:
        last = self.members.pop()
        if last is not candidate:
            self.members[candidate.position] = last
            last.position = candidate.position
        self.outstanding -= candidate.outstanding

    def __repr__(self) -> str:
        return f"<Group {len(self.members)} workers that load {'anything that fits' if self.is_open else f'{len(self.loadable)} models'}>"


class Candidate:
    """One worker that may get new work. Changed by the fleet; compared by identity.

    `queue_depth` and `outstanding` (waiting, running and reserved) count the decider's own reservations in.
    """

    __slots__ = ("entry", "group", "node_id", "outstanding", "position", "queue_depth", "ready", "reserved", "service_time_s", "state")

    group: Group

    def __init__(self, entry: WorkerEntry, reserved: Tally) -> None:
        self.node_id = entry.state.node_id
        self.reserved = reserved
        self.ready: AbstractSet[str] = frozenset()
        self.position = 0
        self.renew(entry)

    def renew(self, entry: WorkerEntry) -> None:
        """Take a newer report."""
        self.entry = entry
        self.state = entry.state
        self.service_time_s: float | None = None  # of what runs there; worked out once a report, when it is needed
        self.count_load()

    def count_load(self) -> None:
        """Bring the sums up to date with the report and the reservations."""
        self.queue_depth = self.state.queue_depth + self.reserved.count
        self.outstanding = self.queue_depth + self.state.busy_slots

    def __repr__(self) -> str:
        return f"<Candidate {self.state!r} reserved={self.reserved.count}>"
