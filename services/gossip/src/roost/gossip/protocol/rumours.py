"""Membership news on its way out: each rumour is sent λ·⌈log10(n + 1)⌉ times, the least told first, the newest first among equals.

Invariants: at most one rumour a member (a newer one replaces it); at most `capacity` rumours (the most told gives way).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from roost.gossip.protocol.messages import Claim


def retransmissions(multiplier: int, members: int) -> int:
    """λ · ⌈log10(n + 1)⌉."""
    return multiplier * math.ceil(math.log10(members + 1))


class Rumours:
    """A queue in tiers: `_tiers[k]` holds the rumours told k times, oldest first."""

    def __init__(self, capacity: int, frame_size: Callable[[Claim], int]) -> None:
        self._capacity = capacity
        self._frame_size = frame_size
        self._tiers: list[dict[str, tuple[Claim, int]]] = [{}]  # name -> (claim, size)
        self._tier_of: dict[str, int] = {}

    def add(self, claim: Claim) -> None:
        """Tell `claim`, in place of what was being told of the same member."""
        self.drop(claim.name)
        if len(self._tier_of) >= self._capacity:
            self._drop_most_told()
        self._tiers[0][claim.name] = (claim, self._frame_size(claim))
        self._tier_of[claim.name] = 0

    def drop(self, name: str) -> None:
        tier = self._tier_of.pop(name, None)
        if tier is not None:
            del self._tiers[tier][name]

    def take(self, room_bytes: int, limit: int) -> list[Claim]:
        """The rumours for one packet of `room_bytes`; each counts as told once more and is dropped after `limit` times."""
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
        for told, claim, size in reversed(taken):
            self._told_again(told, claim, size, limit)
        return [claim for _, claim, _ in taken]

    def _told_again(self, told: int, claim: Claim, size: int, limit: int) -> None:
        del self._tiers[told][claim.name]
        if told + 1 >= limit:
            del self._tier_of[claim.name]
            return
        if told + 1 == len(self._tiers):
            self._tiers.append({})
        self._tiers[told + 1][claim.name] = (claim, size)
        self._tier_of[claim.name] = told + 1

    def _drop_most_told(self) -> None:
        for tier in reversed(self._tiers):
            for name in tier:
                self.drop(name)
                return

    def __len__(self) -> int:
        return len(self._tier_of)

    def __contains__(self, name: str) -> bool:
        return name in self._tier_of

    def __repr__(self) -> str:
        return f"<Rumours {len(self)}: {[len(tier) for tier in self._tiers]} by times told>"


_SMALLEST_RUMOUR = 16  # no claim is smaller on the wire: below this there is no point in looking further
