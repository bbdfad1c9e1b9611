"""State that changes seldom (residency, capacity, addresses, zone): versioned keys of one owner, after scuttlebutt (van Renesse et al.
2008).

Only the owner writes; every write takes the next version. A deleted key stays as a tombstone until the owner collects it, which raises
`floor`: whoever's version is below the floor may have missed a deletion, and is given the complete state instead of a delta (chitchat's
reset); a delta that begins above what the receiver holds is refused (gap). Invariants: entries are in order of their versions; version >=
every entry's version and >= floor; no tombstone is at or below the floor.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

from roost.gossip.protocol.messages import ColdDelta, ColdEntry
from roost.gossip.protocol.versions import successor

MAX_COLD_KEYS = 1_024  # of one owner: more models than a worker's memory ever holds at once
MAX_COLD_KEY_BYTES = 520  # a model's name of 128 characters of four bytes, and a prefix
MAX_COLD_VALUE_BYTES = 512  # one entry always fits a datagram, so deltas always make progress
MAX_COLD_BYTES = 64 * 1_024  # of one owner


class ColdLimit(ValueError):
    """The caller's write would exceed a limit; nothing was written."""


class Applied(enum.Enum):
    """What became of a delta."""

    NEWS = "news"
    STALE = "stale"
    GAP = "gap"
    OVERSIZED = "oversized"


def entry_bytes(entry: ColdEntry) -> int:
    return len(entry.key.encode()) + len(entry.value or b"")


class ColdState:
    """The keys of one owner, as the owner or as a replica."""

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.version = 0
        self.floor = 0
        self._entries: dict[str, ColdEntry] = {}
        self._bytes = 0

    # --- reading ---

    def __getitem__(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def items(self) -> dict[str, bytes]:
        """The living keys."""
        return {entry.key: entry.value for entry in self._entries.values() if entry.value is not None}

    def entries(self) -> tuple[ColdEntry, ...]:
        return tuple(self._entries.values())

    @property
    def size_bytes(self) -> int:
        return self._bytes

    # --- the owner ---

    def write(self, changes: Mapping[str, bytes | None]) -> tuple[ColdEntry, ...]:
        """Set keys (None deletes); returns the entries that changed. Raises ColdLimit, having written nothing."""
        wanted = {k: v for k, v in changes.items() if self[k] != v}
        self._check(wanted)
        written = []
        for key, value in wanted.items():
            self.version = successor(self.version)
            entry = ColdEntry(key, self.version, value)
            self._put(entry)
            written.append(entry)
        return tuple(written)

    def collect(self, tombstones: Mapping[str, int]) -> bool:
        """Forget these tombstones (key to version), those that still stand. Raises the floor; True if anything was forgotten."""
        due = [e for e in self._entries.values() if e.value is None and tombstones.get(e.key) == e.version]
        if not due:
            return False
        self.floor = max(entry.version for entry in due)
        self.version = successor(self.version)
        self._sweep()
        return True

    def _check(self, changes: Mapping[str, bytes | None]) -> None:
        for key, value in changes.items():
            if not key or len(key.encode()) > MAX_COLD_KEY_BYTES:
                raise ColdLimit(f"a key must have 1-{MAX_COLD_KEY_BYTES} bytes (got {key[:40]!r})")
            if value is not None and len(value) > MAX_COLD_VALUE_BYTES:
                raise ColdLimit(f"the value of {key[:40]!r} has {len(value)} bytes; at most {MAX_COLD_VALUE_BYTES} are allowed")
        after = {entry.key: entry for entry in self._entries.values()} | {k: ColdEntry(k, 0, v) for k, v in changes.items()}
        if len(after) > MAX_COLD_KEYS or sum(entry_bytes(entry) for entry in after.values()) > MAX_COLD_BYTES:
            raise ColdLimit(f"more than {MAX_COLD_KEYS} keys or {MAX_COLD_BYTES} bytes, deleted keys included")

    # --- exchange ---

    def delta_after(self, held: int, room_bytes: int, size_of: Callable[[ColdDelta], int]) -> ColdDelta | None:
        """What one who holds version `held` lacks, as much as fits; None if nothing, or if a complete state is due and does not fit."""
        if held >= self.version:
            return None
        if held < self.floor:
            complete = ColdDelta(self.owner, 0, self.version, self.floor, True, self.entries())
            return complete if size_of(complete) <= room_bytes else None
        missing = [entry for entry in reversed(self._entries.values()) if entry.version > held][::-1]
        room = room_bytes - size_of(ColdDelta(self.owner, held, 0, 0, False, ()))
        fitting = _prefix_that_fits(missing, room)
        if len(fitting) == len(missing):
            return ColdDelta(self.owner, held, self.version, self.floor, held == 0, tuple(fitting)) if room >= 0 else None
        return ColdDelta(self.owner, held, fitting[-1].version, self.floor, False, tuple(fitting)) if fitting else None

    def apply(self, delta: ColdDelta) -> Applied:
        """Take in what `delta` knows better."""
        if delta.version <= self.version:
            return Applied.STALE
        if delta.is_complete and self.version < max(delta.floor, 1):
            return self._replace(delta)
        if delta.after > self.version or self.version < delta.floor:
            return Applied.GAP
        news = [entry for entry in delta.entries if entry.version > self.version]
        if not self._has_room(news):
            return Applied.OVERSIZED
        for entry in news:
            self._put(entry)
        self.version = delta.version
        self.floor = max(self.floor, delta.floor)
        self._sweep()
        return Applied.NEWS

    def _replace(self, delta: ColdDelta) -> Applied:
        if len(delta.entries) > MAX_COLD_KEYS or sum(map(entry_bytes, delta.entries)) > MAX_COLD_BYTES:
            return Applied.OVERSIZED
        self._entries = {entry.key: entry for entry in delta.entries}
        self._bytes = sum(map(entry_bytes, self._entries.values()))
        self.version = delta.version
        self.floor = delta.floor
        return Applied.NEWS

    def _has_room(self, news: list[ColdEntry]) -> bool:
        keys = len(self._entries.keys() | {entry.key for entry in news})
        replaced = sum(entry_bytes(self._entries[e.key]) for e in news if e.key in self._entries)
        return keys <= MAX_COLD_KEYS and self._bytes - replaced + sum(map(entry_bytes, news)) <= MAX_COLD_BYTES

    def _put(self, entry: ColdEntry) -> None:
        old = self._entries.pop(entry.key, None)
        self._bytes += entry_bytes(entry) - (entry_bytes(old) if old is not None else 0)
        self._entries[entry.key] = entry

    def _sweep(self) -> None:
        for entry in [e for e in self._entries.values() if e.value is None and e.version <= self.floor]:
            del self._entries[entry.key]
            self._bytes -= entry_bytes(entry)

    def __repr__(self) -> str:
        return f"<ColdState of {self.owner:08x} v{self.version} floor {self.floor}: {len(self._entries)} entries, {self._bytes} B>"


def _prefix_that_fits(entries: list[ColdEntry], room_bytes: int) -> list[ColdEntry]:
    fitting: list[ColdEntry] = []
    for entry in entries:
        room_bytes -= ENTRY_OVERHEAD_BYTES + entry_bytes(entry)
        if room_bytes < 0:
            break
        fitting.append(entry)
    return fitting


ENTRY_OVERHEAD_BYTES = 8  # key length (2), version (4), value length or tombstone (2)
