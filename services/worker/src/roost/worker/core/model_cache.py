"""Which models are in memory, which wait for memory, and who must leave. Pure: every method returns what the shell has to do.

State: the residencies that have memory (at most one a name), the first-in-first-out line of those that wait for it (at most one a
name), and the leases that hold them. Invariants, whatever the order of calls:

- the bytes of residencies with memory never exceed the budget;
- only a residency without leases is evicted, and never a pinned one;
- one name has at most one load under way or waiting: everyone else joins it;
- every lease is released by its holder, or refused, and never forgotten.

Nothing starves. When the head of the line cannot have its memory from idle models, the first victims among models that are in use retire:
they serve the requests they had when they retired and take no others, so those are at most (queue capacity + slots). The load in place
n of the line (from 0) therefore has its memory after at most n + 1 such rounds, each no longer than one load plus the time of the
requests which already held the retiring models. Later arrivals for a retiring model join the end of the same line.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from roost.cluster.errors import ModelInUse, ModelTooLarge, NoCapacity, RoostError
from roost.cluster.worker_state import CacheResult
from roost.worker.core.residency import CacheEffect, Close, Lease, RefuseLeases, Residency, Stage, StartLoad
from roost.worker.core.victims import LeastRecentlyUsed, VictimOrder

MAX_WAITING_LOADS = 256  # distinct models that wait for memory; with more, the worker is the wrong one to ask
# Members of enums that every request compares with: to name them by their class is slow.
_HIT, _JOIN, _COLD_START = CacheResult.HIT, CacheResult.JOIN, CacheResult.COLD_START
_WAITING = Stage.WAITING
PINNED_RETRY_S = 5.0  # pins go when an operator lets them; asking more often does not help


@dataclass(frozen=True, slots=True)
class Acquired:
    """A new lease, and what its holder found."""

    lease: Lease
    result: CacheResult
    effects: tuple[CacheEffect, ...]


@dataclass(frozen=True, slots=True)
class Unloaded:
    """What is closing now; None if the model was not resident."""

    residency: Residency | None
    effects: tuple[CacheEffect, ...]


class ModelCache:
    """Byte-budgeted, single-flight; `victims` orders who goes first. Times are any monotonic clock's seconds."""

    def __init__(self, budget_bytes: int, *, max_waiting_loads: int = MAX_WAITING_LOADS, victims: VictimOrder | None = None) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._max_waiting_loads = max_waiting_loads
        self._order: VictimOrder = victims or LeastRecentlyUsed()
        self._resident: dict[str, Residency] = {}
        self._waiting: dict[str, Residency] = {}  # in order of arrival
        self._retiring: dict[str, Residency] = {}
        self._changed: set[str] = set()
        self._keys = itertools.count(1)
        self._uses = itertools.count(1)

    # --- reading --------------------------------------------------------------------------------

    @property
    def resident(self) -> Iterator[Residency]:
        """Every residency that has memory."""
        return iter(self._resident.values())

    @property
    def waiting(self) -> Iterator[Residency]:
        """Every residency that waits for memory, first come first."""
        return iter(self._waiting.values())

    def get(self, name: str) -> Residency | None:
        """The residency of that name that has memory."""
        return self._resident.get(name)

    def take_changed(self) -> set[str]:
        """The names of which a stay has begun, ended, or otherwise changed since this was asked last; who holds it is no change."""
        changed, self._changed = self._changed, set()
        return changed

    @property
    def pinned_bytes(self) -> int:
        return sum(residency.size_bytes for residency in self._resident.values() if residency.is_pinned)

    def find(self, name: str) -> CacheResult:
        """What a request for `name` would find now."""
        resident = self._resident.get(name)
        if resident is not None and resident.takes_new_requests:
            return _HIT
        is_coming = name in self._waiting or (resident is not None and resident.stage is Stage.LOADING)
        return _JOIN if is_coming else _COLD_START

    # --- holders --------------------------------------------------------------------------------

    def acquire(self, name: str, size_bytes: int, now: float) -> Acquired:
        """A lease on the model, which is loaded if nobody has asked for it yet. Raises ModelTooLarge, NoCapacity."""
        result = self.find(name)
        self._order.used(name, now)
        if result is _COLD_START:
            self._check_room(name, size_bytes)
            self._waiting[name] = Residency(key=next(self._keys), name=name, size_bytes=size_bytes)
            self._changed.add(name)
        residency = self._waiting.get(name) or self._resident[name]
        lease = Lease(residency)
        residency.leases.add(lease)
        residency.last_use = next(self._uses)
        return Acquired(lease, result, self._plan(now) if result is _COLD_START else ())

    def start(self, lease: Lease) -> None:
        """The holder has a slot and runs on the model now; its residency `can_run`."""
        lease.is_running = True
        lease.residency.running += 1

    def release(self, lease: Lease, now: float) -> tuple[CacheEffect, ...]:
        """The holder is done or has gone. Without effect if the lease was refused or released before."""
        residency = lease.residency
        if lease not in residency.leases:
            return ()
        self._detach(lease)
        residency.last_use = next(self._uses)
        if residency.stage is _WAITING and not residency.is_in_use:
            self._stop_waiting(residency)
            residency.stage = Stage.GONE
        return self._plan(now)

    def pin(self, lease: Lease, now: float) -> tuple[CacheEffect, ...]:
        """The leased model is not evicted to make room until it is unloaded."""
        lease.residency.is_pinned = True
        self._changed.add(lease.residency.name)
        return self._plan(now)

    def unpin(self, name: str, now: float) -> tuple[CacheEffect, ...] | None:
        """The model may be evicted to make room again, and stays. None if it was not pinned."""
        resident = self._resident.get(name)
        if resident is None or not resident.is_pinned:
            return None
        resident.is_pinned = False
        self._changed.add(name)
        return self._plan(now)

    def stop_load(self, name: str, now: float) -> tuple[CacheEffect, ...]:
        """A load that nobody waits for ends, as if it had never been begun."""
        resident = self._resident.get(name)
        if resident is None or resident.stage is not Stage.LOADING or resident.is_in_use:
            return ()
        return (self._close(resident, is_eviction=False), *self._plan(now))

    def unload(self, name: str, now: float) -> Unloaded:
        """Puts an idle model out, pinned or not. Raises ModelInUse."""
        holders = [residency for residency in (self._resident.get(name), self._waiting.get(name)) if residency is not None]
        in_use = sum(len(residency.leases) for residency in holders)
        if in_use:
            raise ModelInUse(name, in_use)
        resident = self._resident.get(name)
        if resident is None:
            return Unloaded(None, ())
        if resident.stage is Stage.CLOSING:
            return Unloaded(resident, ())
        return Unloaded(resident, (self._close(resident, is_eviction=False), *self._plan(now)))

    # --- what became of effects -------------------------------------------------------------------

    def loaded(self, residency: Residency, max_parallel: int, now: float) -> tuple[CacheEffect, ...]:
        """The weights are in memory and run `max_parallel` requests at once. Without effect if it was closed meanwhile."""
        if residency.stage is not Stage.LOADING:
            return ()
        residency.stage = Stage.READY
        residency.max_parallel = max_parallel
        residency.ready_at = now
        self._changed.add(residency.name)
        return self._plan(now)

    def load_failed(self, residency: Residency, error: RoostError, now: float) -> tuple[CacheEffect, ...]:
        """The load left nothing in memory; everyone who waits for it is refused with `error`."""
        refusal = self._refuse(residency, error)
        self._drop(residency)
        return (refusal, *self._plan(now)) if refusal.leases else self._plan(now)

    def lost(self, residency: Residency, now: float) -> tuple[CacheEffect, ...]:
        """The weights can no longer be used. Holders that do not run yet wait for a new load; those that run must release."""
        if residency.stage is not Stage.READY:
            return ()
        close = self._close(residency, is_eviction=False)
        stranded = [lease for lease in residency.leases if not lease.is_running]
        if stranded:
            self._move(stranded, residency, self._next_stay(residency))
        return (close, *self._plan(now))

    def closed(self, residency: Residency, now: float) -> tuple[CacheEffect, ...]:
        """Its memory is free."""
        self._drop(residency)
        return self._plan(now)

    # --- deciding -------------------------------------------------------------------------------

    def _check_room(self, name: str, size_bytes: int) -> None:
        if size_bytes > self.budget_bytes:
            raise ModelTooLarge(name, size_bytes, self.budget_bytes)
        self._check_pins(name, size_bytes)
        if len(self._waiting) >= self._max_waiting_loads:
            raise NoCapacity(f"{len(self._waiting)} models already wait for memory", 1.0)

    def _check_pins(self, name: str, size_bytes: int) -> None:
        pinned = self.pinned_bytes
        if size_bytes > self.budget_bytes - pinned:
            why = f"{name} takes {size_bytes} bytes and {pinned} bytes of the memory budget of {self.budget_bytes} bytes are pinned"
            raise NoCapacity(why, PINNED_RETRY_S)

    def _plan(self, now: float) -> tuple[CacheEffect, ...]:
        """Starts every load that can start, and makes room for the first that cannot."""
        if not self._waiting and not self._retiring:
            return ()
        weightless = [waiting for waiting in self._waiting.values() if waiting.size_bytes == 0 and waiting.name not in self._resident]
        effects: list[CacheEffect] = [self._start(residency, now) for residency in weightless]  # they need not wait for memory
        retiring: set[str] = set()
        while self._waiting:
            head = next(iter(self._waiting.values()))
            if not self._advance(head, effects, now):
                retiring = self._make_room(head, effects, now)
                break
        for name in [each for each in self._retiring if each not in retiring and each not in self._waiting]:
            self._retire(self._retiring[name], is_retiring=False)
        return tuple(effects)

    def _advance(self, head: Residency, effects: list[CacheEffect], now: float) -> bool:
        """True if the head left the line: started, refused because of pins, or given back the stay that had retired for nothing."""
        resident = self._resident.get(head.name)
        if resident is not None and resident.stage is Stage.READY:
            self._stop_waiting(head)
            self._retire(resident, is_retiring=False)
            self._move(list(head.leases), head, resident)
            head.stage = Stage.GONE
            return True
        try:
            self._check_pins(head.name, head.size_bytes)
        except NoCapacity as error:
            self._stop_waiting(head)
            head.stage = Stage.GONE
            effects.append(self._refuse(head, error))
            return True
        if resident is not None or head.size_bytes > self.budget_bytes - self.used_bytes:
            return False
        effects.append(self._start(head, now))
        return True

    def _make_room(self, head: Residency, effects: list[CacheEffect], now: float) -> set[str]:
        """Evicts idle models and retires used ones, in the order of victims, until the head will fit. Returns who retires."""
        closing = sum(residency.size_bytes for residency in self._resident.values() if residency.stage is Stage.CLOSING)
        missing = head.size_bytes - (self.budget_bytes - self.used_bytes) - closing
        retiring: set[str] = set()
        for victim in self._victims(now):
            if missing <= 0:
                break
            missing -= victim.size_bytes
            if victim.is_in_use:
                self._retire(victim, is_retiring=True)
                retiring.add(victim.name)
            else:
                effects.append(self._close(victim, is_eviction=True))
        return retiring

    def _victims(self, now: float) -> list[Residency]:
        """Idle ones first, then used ones that are ready, those that retire already before the others. Among equals the order decides."""
        candidates = [
            residency
            for residency in self._resident.values()
            if residency.size_bytes > 0
            and not residency.is_pinned
            and (residency.stage is Stage.READY or (residency.stage is Stage.LOADING and not residency.is_in_use))
        ]
        rank = self._order.rank
        return sorted(candidates, key=lambda residency: (residency.is_in_use, not residency.is_retiring, rank(residency, now)))

    # --- moving ---------------------------------------------------------------------------------

    def _start(self, residency: Residency, now: float) -> StartLoad:
        self._stop_waiting(residency)
        self._resident[residency.name] = residency
        self.used_bytes += residency.size_bytes
        residency.stage = Stage.LOADING
        residency.load_started_at = now
        return StartLoad(residency)

    def _close(self, residency: Residency, *, is_eviction: bool) -> Close:
        residency.stage = Stage.CLOSING
        self._changed.add(residency.name)
        residency.is_pinned = False
        self._retire(residency, is_retiring=False)
        return Close(residency, is_eviction)

    def _retire(self, residency: Residency, *, is_retiring: bool) -> None:
        if residency.is_retiring is not is_retiring:
            residency.is_retiring = is_retiring
            self._changed.add(residency.name)
            if is_retiring:
                self._retiring[residency.name] = residency
            else:
                del self._retiring[residency.name]

    def _drop(self, residency: Residency) -> None:
        if residency.has_memory:
            del self._resident[residency.name]
            self.used_bytes -= residency.size_bytes
            residency.stage = Stage.GONE
            self._changed.add(residency.name)

    def _stop_waiting(self, residency: Residency) -> None:
        del self._waiting[residency.name]
        self._changed.add(residency.name)

    def _refuse(self, residency: Residency, error: RoostError) -> RefuseLeases:
        refused = tuple(residency.leases)
        residency.leases.clear()
        residency.running = 0
        return RefuseLeases(refused, error)

    def _next_stay(self, lost: Residency) -> Residency:
        """Where holders of a lost model wait; accepted requests are never refused for the length of the line."""
        fresh = Residency(key=next(self._keys), name=lost.name, size_bytes=lost.size_bytes, last_use=lost.last_use)
        self._changed.add(lost.name)
        return self._waiting.setdefault(lost.name, fresh)

    def _move(self, leases: list[Lease], source: Residency, target: Residency) -> None:
        for lease in leases:
            source.leases.discard(lease)
            target.leases.add(lease)
            lease.residency = target

    def _detach(self, lease: Lease) -> None:
        lease.residency.leases.discard(lease)
        if lease.is_running:
            lease.residency.running -= 1
            lease.is_running = False

    def __repr__(self) -> str:
        resident = ", ".join(map(repr, self._resident.values())) or "nothing"
        return f"<ModelCache {self.used_bytes}/{self.budget_bytes} B, {resident}; waiting: {', '.join(self._waiting) or 'nobody'}>"
