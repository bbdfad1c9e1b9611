"""The cluster as this sidecar knows it: membership and spread records in, a view to place by out.

State: the view and the placer (owned here and nowhere else), and for each other member what it last told, whether it changed since the view
was brought up to date, and how long it is known. Invariants: a worker of another member is LIVE in the view only while that member is alive
and says its worker is here; an entry's age counts from when its own sidecar wrote it down. Bringing the view up to date is put off until
somebody looks, so that records nobody asks for cost next to nothing. No IO, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from roost.cluster.errors import InvalidField, NoCapacity
from roost.cluster.view import Applied, ClusterView
from roost.cluster.worker_state import Liveness, WorkerState
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.events import ColdChanged, Event, Happening, HotChanged, MemberChanged, Peer
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.messages import Status
from roost.gossip.records import Told, told_by
from roost.placement.placer import Placer

ARRIVAL_S = 0.5  # a request has reached its worker this long after its decision; a load written later counts it


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
    """Owned by one thread. `wall_offset_s`: wall clock minus the `now` of the calls."""

    def __init__(self, view: ClusterView, placer: Placer, spread: Spread, counters: Counters, *, wall_offset_s: float) -> None:
        self.view = view
        self.placer = placer
        self._spread = spread
        self._counters = counters
        self._wall_offset_s = wall_offset_s
        self._others: dict[str, _Other] = {}
        # As sets, but in order, so that a run in virtual time can be repeated.
        self._changed: dict[str, None] = {}  # in load alone
        self._changed_lives: dict[str, None] = {}  # in what decides whether they may get work
        self._opened: list[str] = []

    # --- what happens -------------------------------------------------------------------------------

    def happened(self, event: Event) -> bool:
        """Note an event of the node. True if it may matter to somebody who waits for a worker."""
        match event:
            case HotChanged(names):
                self._changed.update(dict.fromkeys(names))
                return False
            case ColdChanged(name):
                self._other(name, Status.ALIVE).is_told_anew = True
                self._changed_lives[name] = None
                return True
            case MemberChanged(happening, member):
                other = self._other(member.name, member.status)
                other.status = member.status
                other.is_told_anew = other.is_told_anew or happening in (Happening.JOINED, Happening.RESTARTED)
                self._changed_lives[member.name] = None
                return True
            case _:
                return False

    def _other(self, name: str, status: Status) -> _Other:
        return self._others.setdefault(name, _Other(status))

    def own_report(self, state: WorkerState, now: float, *, stream: int) -> Applied:
        """Our own worker reported."""
        applied = self.view.apply(state, now, is_streamed=True, stream=stream)
        if applied.is_accepted:
            self.placer.settle(state.node_id, state.outcomes, now)
        return applied

    def own_judged(self, node_id: str, liveness: Liveness, now: float) -> bool:
        """Our own worker is away, or has been for too long. False if that was known."""
        return self.view.judge(node_id, liveness, now)

    # --- looking ------------------------------------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Bring the view up to date."""
        self.placer.advance(now)
        self.refresh_lives(now)
        if self._changed:
            changed, self._changed = self._changed, {}
            for name in changed:
                self._update(name, now)

    def refresh_lives(self, now: float) -> None:
        """Bring up to date who lives and holds what, and leave the loads for later: most changes are of load, and few are looked at."""
        if self._changed_lives:
            changed, self._changed_lives = self._changed_lives, {}
            for name in changed:
                self._changed.pop(name, None)
                self._update(name, now)

    def opened(self) -> list[str]:
        """Workers that have become available since this was last asked."""
        opened, self._opened = self._opened, []
        return opened

    def forget_pruned(self, known: Iterable[str], own: str) -> None:
        """Drop members that the node has forgotten."""
        names = {*known, own}
        for name in [name for name in self._others if name not in names]:
            self._drop(name)

    def _update(self, name: str, now: float) -> None:
        other = self._others.get(name)
        if other is None:
            return
        if other.status is Status.LEFT:
            self._drop(name)
            return
        if other.is_told_anew:
            self._read(name, other, now)
        if other.told is None:
            self.view.judge(name, max(Liveness.SUSPECT, _LIVENESS[other.status], key=_GRAVITY), now)
            return
        self._show(name, other, other.told, now)

    def _read(self, name: str, other: _Other, now: float) -> None:
        other.is_told_anew = False
        try:
            told = told_by(name, self._spread.keys_of(name))
        except InvalidField:
            self._counters.count("records_invalid")
            told = None
        if told is None or other.told is None or told.state.models != other.told.state.models:
            other.told_at = now
        other.told, other.is_shown = told, False

    def _show(self, name: str, other: _Other, told: Told, now: float) -> None:
        """One member's worker as the view should have it."""
        liveness = max(_LIVENESS[other.status], told.liveness, key=_GRAVITY)
        entry = self.view.entries.get(name)
        if liveness is Liveness.LIVE or entry is None:
            load, age_s = self._spread.load_of(name, now) or (Load(is_draining=True), now - other.told_at)
            written_at = now - age_s
            was_available = entry is not None and entry.is_available
            state = told.with_load(
                load,
                timestamp=max(0.0, written_at + self._wall_offset_s),
                told_for_s=now - other.told_at,
                has_catalogue=not other.is_shown,
            )
            other.is_shown = self._apply(state, written_at)
            if other.is_shown and liveness is Liveness.LIVE:
                self.placer.seen(name, written_at - ARRIVAL_S)
                if not was_available and not state.is_draining:
                    self._opened.append(name)
        self.view.judge(name, liveness, now)

    def _apply(self, state: WorkerState, written_at: float) -> bool:
        entry = self.view.entries.get(state.node_id)
        if entry is not None and state.epoch < entry.state.epoch:  # its own sidecar says so: the machine's clock was set back
            self.view.judge(state.node_id, Liveness.DEAD, written_at)
        try:
            return self.view.apply(state, written_at, is_streamed=True).is_accepted
        except NoCapacity:
            self._counters.count("view_full")
            return False

    def _drop(self, name: str) -> None:
        del self._others[name]
        self.view.forget(name)

    def __repr__(self) -> str:
        return f"<LocalView {self.view!r}, {len(self._others)} others, {len(self._changed)} changed>"


_ORDER = {Liveness.LIVE: 0, Liveness.SUSPECT: 1, Liveness.DEAD: 2}
_GRAVITY: Callable[[Liveness], int] = _ORDER.__getitem__
