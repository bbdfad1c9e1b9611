"""Frames on their way out, packed into datagrams: what is addressed to one member travels together, rumours ride in the room that is left.

Invariants: no packet exceeds the room of a datagram; at most `capacity` frames wait (state frames are refused first come, membership never
starves because each state packet leaves room for it).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from roost.gossip.protocol.config import Address
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.messages import Frame
from roost.gossip.protocol.rumours import Rumours


@dataclass(frozen=True, slots=True)
class Parcel:
    """The frames of one datagram and the bytes they take."""

    address: Address
    frames: tuple[Frame, ...]
    size_bytes: int


class Outbox:
    """Frames by address, in the order in which the addresses were first used since the last flush."""

    def __init__(self, *, room: int, capacity: int, frame_size: Callable[[Frame], int], rumours: Rumours, counters: Counters) -> None:
        self.room = room
        self._capacity = capacity
        self.frame_size = frame_size
        self._rumours = rumours
        self._counters = counters
        self._waiting: dict[Address, list[Frame]] = {}
        self._count = 0

    def put(self, address: Address, *frames: Frame) -> None:
        """Send `frames` to `address`; no frames at all is a packet of rumours, if there are any."""
        if self._count + len(frames) > self._capacity:
            self._counters.count("outbox_full")
            return
        self._waiting.setdefault(address, []).extend(frames)
        self._count += len(frames)

    def flush(self, rumour_limit: int, silent: Container[Address] = ()) -> list[Parcel]:
        """Everything that waits, packed; each rumour is told at most `rumour_limit` times in all, beside the `silent`."""
        if not self._waiting:
            return []
        waiting, self._waiting, self._count = self._waiting, {}, 0
        return [
            parcel
            for address, frames in waiting.items()
            for parcel in self._pack(address, frames, rumour_limit, is_silent=address in silent)
        ]

    def _pack(self, address: Address, frames: list[Frame], rumour_limit: int, *, is_silent: bool) -> list[Parcel]:
        parcels: list[Parcel] = []
        current: list[Frame] = []
        left = self.room
        for frame in frames:
            size = self.frame_size(frame)
            if size > self.room:
                self._counters.count("frame_too_large")
                continue
            if size > left:
                parcels.append(self._close(address, current, left, rumour_limit, is_silent=is_silent))
                current, left = [], self.room
            current.append(frame)
            left -= size
        last = self._close(address, current, left, rumour_limit, is_silent=is_silent)
        return [*parcels, last] if last.frames else parcels

    def _close(self, address: Address, frames: list[Frame], left: int, rumour_limit: int, *, is_silent: bool) -> Parcel:
        rumours = self._rumours.take(left, rumour_limit, is_silent=is_silent)
        size = self.room - left + sum(map(self.frame_size, rumours))
        return Parcel(address, (*frames, *rumours), size)

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<Outbox {self._count} frames to {len(self._waiting)} addresses>"
