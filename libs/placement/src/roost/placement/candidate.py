"""One worker that may get new work, and the group of those that can load the same models."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from roost.cluster.view import WorkerEntry
from roost.cluster.worker_entry import room_bytes
from roost.placement.memory import HeldMemory, Victim
from roost.placement.reservations import Tally


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What the members can load: `loadable`, and where `is_open` (no catalogue was sent) all that fits into `room_bytes`."""

    loadable: frozenset[str]
    is_open: bool = False
    room_bytes: int = 0


class Group:
    """Candidates that can load the same models. Changed by the fleet; compared by identity."""

    __slots__ = ("is_open", "key", "loadable", "members", "outstanding", "room_bytes")

    def __init__(self, key: GroupKey) -> None:
        self.key = key
        self.loadable = key.loadable
        self.is_open = key.is_open
        self.room_bytes = key.room_bytes
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

    `queue_depth` and `outstanding` (waiting, running and reserved) count the decider's own reservations in; `room_bytes` is what its pins
    leave (0: not known).
    """

    __slots__ = (
        "busy",
        "entry",
        "free_bytes",
        "group",
        "has_limits",
        "held_memory",
        "held_up",
        "loading",
        "node_id",
        "outstanding",
        "plain_wait_s",
        "position",
        "queue_depth",
        "ready",
        "ready_since",
        "reserved",
        "room_bytes",
        "service_time_s",
        "state",
        "victims",
    )

    group: Group

    def __init__(self, entry: WorkerEntry, reserved: Tally) -> None:
        self.node_id = entry.state.node_id
        self.reserved = reserved
        self.ready: AbstractSet[str] = frozenset()
        self.loading: AbstractSet[str] = frozenset()
        self.ready_since: dict[str, float] = {}  # of models that were seen to become ready, the decider's time
        self.position = 0
        self.room_bytes = room_bytes(entry.state)
        self.renew(entry)

    def renew(self, entry: WorkerEntry) -> None:
        """Take a newer report."""
        self.entry = entry
        self.state = entry.state
        # Of what runs there, waits for a model and keeps memory; worked out by `Estimates` once a report, when they are needed.
        self.service_time_s: float | None = None
        self.held_up: int | None = None
        self.has_limits: bool | None = None  # a model there runs fewer requests at once than there are slots
        self.held_memory: HeldMemory | None = None
        self.free_bytes: float | None = None
        self.victims: tuple[float, tuple[Victim, ...]] | None = None  # as of then, by `Costs`
        self.busy: tuple[float, dict[str, float]] | None = None  # slots by model, as of then, by `Costs`
        self.count_load()

    def count_load(self) -> None:
        """Bring the sums up to date with the report and the reservations."""
        self.queue_depth = self.state.queue_depth + self.reserved.count
        self.outstanding = self.queue_depth + self.state.busy_slots
        self.plain_wait_s: float | None = None  # by `Estimates`, until a report or a reservation changes it

    def __repr__(self) -> str:
        return f"<Candidate {self.state!r} reserved={self.reserved.count}>"
