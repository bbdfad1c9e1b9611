"""Membership news on its way out: each rumour is sent λ·⌈log10(n + 1)⌉ times, the least told first, the newest first among equals.

Invariants: at most one rumour a member (a newer one replaces it), but of one suspicion one for each accuser, since each of them counts;
at most `capacity` rumours (the most told gives way).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from roost.gossip.protocol.messages import Claim, Suspect


def retransmissions(multiplier: int, members: int) -> int:
    """λ · ⌈log10(n + 1)⌉."""
    return multiplier * math.ceil(math.log10(members + 1))


Key = tuple[str, str]  # whom a rumour is of, and who accuses


class Rumours:
    """A queue in tiers: `_tiers[k]` holds the rumours told k times, oldest first."""

    def __init__(self, capacity: int, frame_size: Callable[[Claim], int]) -> None:
        self._capacity = capacity
        self._frame_size = frame_size
        self._tiers: list[dict[Key, tuple[Claim, int]]] = [{}]  # (claim, size)
        self._tier_of: dict[Key, int] = {}
        self._claims_of: dict[str, dict[Key, Claim]] = {}

    def add(self, claim: Claim) -> None:
        """Tell `claim`, in place of what was being told of the same member; other accusers of the same suspicion are told beside it."""
        key = _key(claim)
        for held, other in list(self._claims_of.get(claim.name, {}).items()):
            if held == key or not _is_same_suspicion(claim, other):
                self._remove(held)
        if len(self._tier_of) >= self._capacity:
            self._drop_most_told()
        self._tiers[0][key] = (claim, self._frame_size(claim))
        self._tier_of[key] = 0
        self._claims_of.setdefault(claim.name, {})[key] = claim

    def drop(self, name: str) -> None:
        for key in list(self._claims_of.get(name, ())):
            self._remove(key)

    def _remove(self, key: Key) -> None:
        del self._tiers[self._tier_of.pop(key)][key]
        self._forget(key)

    def _forget(self, key: Key) -> None:
        claims = self._claims_of[key[0]]
        del claims[key]
        if not claims:
            del self._claims_of[key[0]]

    def take(self, room_bytes: int, limit: int, *, is_silent: bool = False) -> list[Claim]:
        """The rumours for one packet of `room_bytes`; each counts as told once more and is dropped after `limit` times.

        What is told to one who `is_silent` does not count: it may be dead, and where members are few the others might then never hear.
        """
        if not self._tier_of:
            return []
        taken: list[tuple[int, Claim, int]] = []
        for told, tier in enumerate(self._tiers):
            for claim, size in reversed(tier.values()):
                if size <= room_bytes:
                    room_bytes -= size
                    taken.append((told, claim, size))
                if room_bytes < _SMALLEST_RUMOUR:
                    break
        for told, claim, size in () if is_silent else reversed(taken):
            self._told_again(told, claim, size, limit)
        return [claim for _, claim, _ in taken]

    def _told_again(self, told: int, claim: Claim, size: int, limit: int) -> None:
        key = _key(claim)
        del self._tiers[told][key]
        if told + 1 >= limit:
            del self._tier_of[key]
            self._forget(key)
            return
        if told + 1 == len(self._tiers):
            self._tiers.append({})
        self._tiers[told + 1][key] = (claim, size)
        self._tier_of[key] = told + 1

    def _drop_most_told(self) -> None:
        for tier in reversed(self._tiers):
            for key in tier:
                self._remove(key)
                return

    def __len__(self) -> int:
        return len(self._tier_of)

    def __contains__(self, name: str) -> bool:
        return name in self._claims_of

    def __repr__(self) -> str:
        return f"<Rumours {len(self)}: {[len(tier) for tier in self._tiers]} by times told>"


def _key(claim: Claim) -> Key:
    return (claim.name, claim.accuser if isinstance(claim, Suspect) else "")


def _is_same_suspicion(claim: Claim, other: Claim) -> bool:
    return (
        isinstance(claim, Suspect) and isinstance(other, Suspect) and (claim.epoch, claim.incarnation) == (other.epoch, other.incarnation)
    )


_SMALLEST_RUMOUR = 16  # no claim is smaller on the wire: below this there is no point in looking further
