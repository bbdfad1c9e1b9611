"""Who is in the cluster, as far as this node knows: the member table, and the one rule by which claims change it.

A claim's place in the order is (epoch, is a leave, incarnation, status); a claim counts iff its place is higher than the member's. Hence
applying claims is commutative, associative and idempotent. In SWIM's words: alive wins only with a higher incarnation, suspect and dead
with at least the known one; a leave is final for its epoch; a new epoch wins at once. An alive claim from another address while the holder
of the name is not dead or gone is no claim but a conflict.

Invariants: at most `Bounds.members` rows (the longest dead give way, then newcomers are refused); `_reachable` lists exactly the alive and
suspect rows; `_names_by_owner` maps the owner ids of exactly those.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from roost.gossip.protocol.config import Address, Bounds
from roost.gossip.protocol.events import Peer
from roost.gossip.protocol.messages import Alive, Claim, Dead, Left, Status, Suspect
from roost.gossip.protocol.rng import Rng, sample

Place = tuple[int, bool, int, int]


def place(epoch: int, incarnation: int, status: Status) -> Place:
    """Where a claim stands in the order of claims about one name."""
    if status is Status.LEFT:
        return (epoch, True, 0, Status.LEFT)
    return (epoch, False, incarnation, status)


STATUS_OF: dict[type[Claim], Status] = {Alive: Status.ALIVE, Suspect: Status.SUSPECT, Dead: Status.DEAD, Left: Status.LEFT}


def owner_id(name: str, epoch: int) -> int:
    """The 32 bits by which state records name their owner. Where two ids collide, the younger takes a new epoch (`node`)."""
    return zlib.crc32(epoch.to_bytes(8, "big"), zlib.crc32(name.encode()))


class Outcome(enum.Enum):
    """What a claim did to the table."""

    STALE = "stale"  # older than or equal to what is known
    UNKNOWN = "unknown"  # an accusation or a goodbye of a stranger
    CONFLICT = "conflict"
    FULL = "full"
    JOINED = "joined"
    RESTARTED = "restarted"
    RECOVERED = "recovered"
    RENEWED = "renewed"  # a higher incarnation of one who was alive
    SUSPECTED = "suspected"
    DIED = "died"
    LEFT = "left"

    @property
    def is_news(self) -> bool:
        return self not in _NO_NEWS


_NO_NEWS = frozenset({Outcome.STALE, Outcome.UNKNOWN, Outcome.CONFLICT, Outcome.FULL})
_OUTCOME_OF_STATUS = {Status.SUSPECT: Outcome.SUSPECTED, Status.DEAD: Outcome.DIED, Status.LEFT: Outcome.LEFT}
_GONE = (Status.DEAD, Status.LEFT)


@dataclass(slots=True)
class Member:
    """One row. Only `Members` writes it."""

    name: str
    address: Address
    epoch: int
    incarnation: int
    status: Status
    since: float
    owner: int

    @property
    def place(self) -> Place:
        return place(self.epoch, self.incarnation, self.status)

    @property
    def is_gone(self) -> bool:
        return self.status in _GONE

    def peer(self) -> Peer:
        return Peer(self.name, self.address, self.epoch, self.incarnation, self.status)


class Members:
    """The other members. This node itself is not in the table."""

    def __init__(self, bounds: Bounds, *, tombstone_s: float) -> None:
        self._bounds = bounds
        self._tombstone_s = tombstone_s
        self._rows: dict[str, Member] = {}
        self._reachable: list[str] = []
        self._positions: dict[str, int] = {}
        self._gone: dict[str, None] = {}  # the longest gone first
        self._tombstones: dict[str, tuple[Place, float]] = {}  # name -> (place, forgotten at)
        self._names_by_owner: dict[int, str] = {}

    # --- reading ---

    def get(self, name: str) -> Member | None:
        return self._rows.get(name)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def reachable_count(self) -> int:
        """Alive and suspect members."""
        return len(self._reachable)

    def reachable(self) -> Iterator[Member]:
        return (self._rows[name] for name in self._reachable)

    def gone(self) -> Iterator[Member]:
        """Dead and left members, the longest gone first."""
        return (self._rows[name] for name in self._gone)

    @property
    def has_dead(self) -> bool:
        return any(member.status is Status.DEAD for member in self.gone())

    def dead(self) -> list[Member]:
        return [member for member in self.gone() if member.status is Status.DEAD]

    def by_owner(self, owner: int) -> Member | None:
        """The alive or suspect member whose state goes by that id."""
        name = self._names_by_owner.get(owner)
        return None if name is None else self._rows[name]

    @property
    def owners(self) -> dict[int, str]:
        """Owner id to name, of the alive and suspect. Not to be written."""
        return self._names_by_owner

    def tombstone(self, name: str) -> Place | None:
        """Where the last claim about a member stood that is no longer in the table."""
        entry = self._tombstones.get(name)
        return None if entry is None else entry[0]

    def tombstones(self) -> int:
        return len(self._tombstones)

    def pick(self, count: int, rng: Rng) -> list[Member]:
        """At most `count` reachable members at random."""
        return [self._rows[name] for name in sample(self._reachable, count, rng)]

    # --- writing ---

    def apply(self, claim: Claim, now: float) -> Outcome:
        """Let `claim` change the table if it is news."""
        member = self._rows.get(claim.name)
        if member is None:
            return self._admit(claim, now) if isinstance(claim, Alive) else Outcome.UNKNOWN
        if isinstance(claim, Alive) and claim.address != member.address and claim.epoch >= member.epoch and not member.is_gone:
            return Outcome.CONFLICT
        status = STATUS_OF[type(claim)]
        if place(claim.epoch, claim.incarnation, status) <= member.place:
            return Outcome.STALE
        if claim.epoch > member.epoch and not isinstance(claim, Alive):
            return Outcome.UNKNOWN  # a life we have not heard of: its address may differ
        return self._change(member, claim, status, now)

    def prune(self, now: float, *, dead_after_s: float, left_after_s: float) -> list[Member]:
        """Remove those gone for long, leaving tombstones; forget old tombstones. Returns who was removed."""
        while self._tombstones and self._tombstones[oldest := next(iter(self._tombstones))][1] <= now:
            del self._tombstones[oldest]  # they are in order of burial
        due = [m for m in self.gone() if now - m.since >= (left_after_s if m.status is Status.LEFT else dead_after_s)]
        for member in due:
            self._bury(member, now)
        return due

    def _admit(self, claim: Alive, now: float) -> Outcome:
        tombstone = self._tombstones.get(claim.name)
        if tombstone is not None and place(claim.epoch, claim.incarnation, Status.ALIVE) <= tombstone[0]:
            return Outcome.STALE
        if len(self._rows) >= self._bounds.members:
            longest_gone = next(iter(self._gone), None)
            if longest_gone is None:
                return Outcome.FULL
            self._bury(self._rows[longest_gone], now)
        self._tombstones.pop(claim.name, None)
        owner = owner_id(claim.name, claim.epoch)
        member = Member(claim.name, claim.address, claim.epoch, claim.incarnation, Status.ALIVE, now, owner)
        self._rows[claim.name] = member
        self._enter(member)
        return Outcome.JOINED

    def _change(self, member: Member, claim: Claim, status: Status, now: float) -> Outcome:
        was = member.status
        is_new_epoch = claim.epoch > member.epoch
        self._withdraw(member)
        if isinstance(claim, Alive):
            member.address = claim.address
            member.epoch = claim.epoch
            member.owner = owner_id(claim.name, claim.epoch)
        member.incarnation = max(member.incarnation, claim.incarnation) if status is Status.LEFT else claim.incarnation
        if status is not was or is_new_epoch:
            member.since = now
        member.status = status
        self._enter(member)
        if status is not Status.ALIVE:
            return _OUTCOME_OF_STATUS[status]
        if is_new_epoch:
            return Outcome.RESTARTED
        return Outcome.RENEWED if was is Status.ALIVE else Outcome.RECOVERED

    def _enter(self, member: Member) -> None:
        if member.is_gone:
            self._gone[member.name] = None
            return
        self._positions[member.name] = len(self._reachable)
        self._reachable.append(member.name)
        self._names_by_owner.setdefault(member.owner, member.name)

    def _withdraw(self, member: Member) -> None:
        if member.is_gone:
            self._gone.pop(member.name, None)
            return
        position = self._positions.pop(member.name)
        last = self._reachable.pop()
        if last != member.name:
            self._reachable[position] = last
            self._positions[last] = position
        if self._names_by_owner.get(member.owner) == member.name:
            del self._names_by_owner[member.owner]

    def _bury(self, member: Member, now: float) -> None:
        self._withdraw(member)
        del self._rows[member.name]
        self._tombstones.pop(member.name, None)
        if len(self._tombstones) >= self._bounds.tombstones:
            del self._tombstones[next(iter(self._tombstones))]
        self._tombstones[member.name] = (member.place, now + self._tombstone_s)

    def __repr__(self) -> str:
        return f"<Members {len(self._reachable)} reachable, {len(self._gone)} gone, {len(self._tombstones)} buried>"
