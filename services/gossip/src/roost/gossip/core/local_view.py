"""The cluster as this sidecar knows it: membership and spread records in, facts for its decider out.

State: for each other member what it last told, whether it changed since the decider was told, and how long it is known. Invariants: a
worker of another member is LIVE in the decider's view only while that member is alive and says its worker is here; an entry's age counts
from when its own sidecar wrote it down. Telling the decider is put off until somebody looks, so that records nobody asks for cost next to
nothing. No IO, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from roost.cluster.errors import InvalidField, NoCapacity
from roost.cluster.worker_entry import WorkerEntry
from roost.cluster.worker_state import Liveness
from roost.gossip.core.records import Record, Told, told_by
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.events import ColdChanged, Event, Happening, HotChanged, MemberChanged, Peer
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.messages import Status
from roost.placement.dispatcher import AGING_S
from roost.placement.facts import Fact, Forgotten, Judged
from roost.placement.facts import Told as ToldOf
from roost.placement.plans.registry import DEFAULT_PLANS
from roost.placement.terms import Terms

ARRIVAL_S = 0.5  # a request has reached its worker this long after its decision; a load written later counts it
NEVER_S = 1e12  # who is dead, members tell each other; the view's own rule of silence is not asked
RESERVATION_BOUND_S = 3.0  # a load record that counts the request has come by then, or its request never arrived


def sidecar_terms(decider: str, policy: str, *, aging_s: float = AGING_S, plans: tuple[str, ...] = DEFAULT_PLANS) -> Terms:
    """What holds for every sidecar's decider."""
    return Terms(
        decider,
        policy,
        is_view_shared=True,
        can_tell=True,
        lets_wait=False,
        reservation_bound_s=RESERVATION_BOUND_S,
        aging_s=aging_s,
        plans=plans,
    )


Hear = Callable[[Fact, float], bool]
"""`Decider.hear`, and whatever taps it."""


ReadRecord = Callable[[str, bytes], Record | None]
"""A record from its key and bytes; None for a key that nobody knows. Raises InvalidField."""


class Spread(Protocol):
    """What the gossip node knows of others."""

    def peers(self) -> tuple[Peer, ...]: ...

    def load_of(self, name: str, now: float) -> tuple[Load, float] | None: ...

    def keys_of(self, name: str) -> Mapping[str, bytes]: ...


@dataclass(slots=True)
class _Other:
    """Another member. `told` None: it has no worker, or nothing readable was heard of it. `is_shown`: the view has what was told."""

    status: Status
    told: Told | None = None
    told_at: float = 0.0
    is_told_anew: bool = True
    is_shown: bool = False


_LIVENESS = {Status.ALIVE: Liveness.LIVE, Status.SUSPECT: Liveness.SUSPECT, Status.DEAD: Liveness.DEAD}


class LocalView:
    """Owned by one thread. `hear` tells the decider whose view has these `entries`; `wall_offset_s`: wall clock minus the calls' `now`."""

    def __init__(  # where it hears from, where it tells, and how both are read
        self,
        hear: Hear,
        entries: Mapping[str, WorkerEntry],
        spread: Spread,
        counters: Counters,
        *,
        read: ReadRecord,
        wall_offset_s: float,
    ) -> None:
        self._read_record = read
        self._hear = hear
        self._entries = entries
        self._spread = spread
        self._counters = counters
        self._wall_offset_s = wall_offset_s
        self._others: dict[str, _Other] = {}
        # As sets, but in order, so that a run in virtual time can be repeated.
        self._changed: dict[str, None] = {}  # in load alone
        self._changed_lives: dict[str, None] = {}  # in what decides whether they may get work

    # --- what happens -------------------------------------------------------------------------------

    def happened(self, event: Event) -> None:
        """Note an event of the node."""
        match event:
            case HotChanged(names):
                self._changed.update(dict.fromkeys(names))
            case ColdChanged(name):
                self._other(name, Status.ALIVE).is_told_anew = True
                self._changed_lives[name] = None
            case MemberChanged(happening, member):
                other = self._other(member.name, member.status)
                other.status = member.status
                other.is_told_anew = other.is_told_anew or happening in (Happening.JOINED, Happening.RESTARTED)
                self._changed_lives[member.name] = None
            case _:
                pass

    def _other(self, name: str, status: Status) -> _Other:
        return self._others.setdefault(name, _Other(status))

    # --- looking ------------------------------------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Tell the decider all that has changed."""
        self.refresh_lives(now)
        if self._changed:
            changed, self._changed = self._changed, {}
            for name in changed:
                self._update(name, now)

    def refresh_lives(self, now: float) -> None:
        """Tell who lives and holds what, and leave the loads for later: most changes are of load, and few are looked at."""
        if self._changed_lives:
            changed, self._changed_lives = self._changed_lives, {}
            for name in changed:
                self._changed.pop(name, None)
                self._update(name, now)

    def forget_pruned(self, known: Iterable[str], own: str, now: float) -> None:
        """Drop members that the node has forgotten."""
        names = {*known, own}
        for name in [name for name in self._others if name not in names]:
            self._drop(name, now)

    def _update(self, name: str, now: float) -> None:
        other = self._others.get(name)
        if other is None:
            return
        if other.status is Status.LEFT:
            self._drop(name, now)
            return
        if other.is_told_anew:
            self._read(name, other, now)
        if other.told is None:
            self._hear(Judged(name, max(Liveness.SUSPECT, _LIVENESS[other.status], key=_GRAVITY)), now)
            return
        self._show(name, other, other.told, now)

    def _read(self, name: str, other: _Other, now: float) -> None:
        other.is_told_anew = False
        try:
            told = told_by(name, self._records(name))
        except InvalidField:
            self._counters.count("records_invalid")
            told = None
        if told is None or other.told is None or told.state.models != other.told.state.models:
            other.told_at = now
        other.told, other.is_shown = told, False

    def _records(self, name: str) -> dict[str, Record]:
        """What can be understood of what it spreads. Raises InvalidField."""
        read = ((key, self._read_record(key, data)) for key, data in self._spread.keys_of(name).items())
        return {key: record for key, record in read if record is not None}

    def _show(self, name: str, other: _Other, told: Told, now: float) -> None:
        """One member's worker as the decider should know it."""
        liveness = max(_LIVENESS[other.status], told.liveness, key=_GRAVITY)
        if liveness is not Liveness.LIVE and name in self._entries:  # a late record brings nobody back
            self._hear(Judged(name, liveness), now)
            return
        load, age_s = self._spread.load_of(name, now) or (Load(is_draining=True), now - other.told_at)
        written_at = now - age_s
        state = told.with_load(
            load,
            timestamp=max(0.0, written_at + self._wall_offset_s),
            told_for_s=now - other.told_at,
            has_catalogue=not other.is_shown,
        )
        try:
            other.is_shown = self._hear(ToldOf(state, liveness, written_at, written_at - ARRIVAL_S), now)
        except NoCapacity:
            self._counters.count("view_full")
            other.is_shown = False

    def _drop(self, name: str, now: float) -> None:
        del self._others[name]
        self._hear(Forgotten(name), now)

    def __repr__(self) -> str:
        return f"<LocalView {len(self._others)} others, {len(self._changed)} changed>"


_ORDER = {Liveness.LIVE: 0, Liveness.SUSPECT: 1, Liveness.DEAD: 2}
_GRAVITY: Callable[[Liveness], int] = _ORDER.__getitem__
