"""One worker that may get new work, and the group of those that can load the same models."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from roost.cluster.view import WorkerEntry
from roost.cluster.worker_entry import room_bytes
from roost.placement.estimate import Estimate
from roost.placement.memory import HeldMemory, Residents, Weighed
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
    """One worker that may get new work. Compared by identity.

    Written in this module alone: by the fleet through `renew`, `reserve` and their like, and by whoever works something out of it through
    `keep_...`, which lasts until the next report or the next reservation.

    `queue_depth` and `outstanding` (waiting, running and reserved) count the decider's own reservations in; `room_bytes` is what its pins
    leave (0: not known).
    """

    __slots__ = (
        "base_s",
        "entry",
        "group",
        "has_limits",
        "held_memory",
        "held_up",
        "loading",
        "node_id",
        "outstanding",
        "plain",
        "position",
        "queue_depth",
        "ready",
        "ready_since",
        "reserved",
        "residents",
        "room_bytes",
        "service_time_s",
        "state",
        "unreserved_bytes",
        "weighed",
    )

    group: Group

    def __init__(self, entry: WorkerEntry, reserved: Tally) -> None:
        self.node_id = entry.state.node_id
        self.reserved = reserved
        self.ready: AbstractSet[str] = frozenset()
        self.loading: AbstractSet[str] = frozenset()
        self.ready_since: dict[str, float] = {}  # of models that were seen to become ready, the decider's time
        self.position = 0
        self._take(entry, room_bytes(entry.state))

    def renew(self, entry: WorkerEntry, room: int) -> None:
        """A newer report, and what its pins leave by that."""
        before = self.outstanding
        self._take(entry, room)
        self.group.outstanding += self.outstanding - before

    def _take(self, entry: WorkerEntry, room: int) -> None:
        self.entry = entry
        self.room_bytes = room
        self.state = entry.state
        # Of what runs there, waits for a model and keeps memory; worked out by `Estimates` once a report, when they are needed.
        self.service_time_s: float | None = None
        self.held_up: int | None = None
        self.has_limits: bool | None = None  # a model there runs fewer requests at once than there are slots
        self.held_memory: HeldMemory | None = None
        self.unreserved_bytes: float | None = None
        self.residents: Residents | None = None  # by `Costs`
        self._count_load()

    def recount(self) -> bool:
        """Reservations were dropped: True if it is lighter by that."""
        before = self.outstanding
        self._count_load()
        self.group.outstanding += self.outstanding - before
        return self.outstanding < before

    def _count_load(self) -> None:
        """Bring the sums up to date with the report and the reservations."""
        self.queue_depth = self.state.queue_depth + self.reserved.count
        self.outstanding = self.queue_depth + self.state.busy_slots
        # A report or a reservation changes what was worked out of its load: by `Estimates`, by `Costs`, and by indexes.
        self.plain: Estimate | None = None  # at priority 0 for any model that is ready there
        self.weighed: Weighed | None = None
        self.base_s: float | None = None  # the part of an index's key that is the same for all models

    def reserve(self) -> None:
        """One more reservation was made for it: what `recount` would find."""
        self.queue_depth += 1
        self.outstanding += 1
        self.group.outstanding += 1
        self.plain = self.weighed = self.base_s = None

    def set_ready(self, ready: AbstractSet[str], *, is_new: bool) -> tuple[AbstractSet[str], AbstractSet[str]]:
        """Which models it has lost, and which it has gained. `is_new`: nobody saw when its models became ready."""
        before, self.ready = self.ready, ready
        lost, gained = before - ready, ready - before
        for model in lost:
            self.ready_since.pop(model, None)
        if not is_new:
            self.ready_since.update(dict.fromkeys(gained, self.entry.received_at))
        return lost, gained

    def set_loading(self, loading: AbstractSet[str]) -> AbstractSet[str]:
        """What it was loading before."""
        before, self.loading = self.loading, loading
        return before

    def go_on(self, ready_since: Mapping[str, float]) -> None:
        """When its models became ready, as somebody else saw it."""
        self.ready_since = dict(ready_since)

    # --- what others have worked out ---------------------------------------------------------------

    def keep_service_time(self, seconds: float) -> float:
        self.service_time_s = seconds
        return seconds

    def keep_held_up(self, requests: int) -> int:
        self.held_up = requests
        return requests

    def keep_limits(self, *, has_limits: bool) -> bool:
        self.has_limits = has_limits
        return has_limits

    def keep_held_memory(self, held: HeldMemory) -> HeldMemory:
        self.held_memory = held
        return held

    def keep_unreserved(self, free_bytes: float) -> float:
        self.unreserved_bytes = free_bytes
        return free_bytes

    def keep_residents(self, residents: Residents) -> Residents:
        self.residents = residents
        return residents

    def keep_plain(self, estimate: Estimate) -> Estimate:
        self.plain = estimate
        return estimate

    def keep_weighed(self, weighed: Weighed) -> Weighed:
        self.weighed = weighed
        return weighed

    def keep_base(self, seconds: float) -> None:
        self.base_s = seconds

    def __repr__(self) -> str:
        return f"<Candidate {self.state!r} reserved={self.reserved.count}>"
