"""Requests over streams that wait to be sent or to be answered.

Invariant: at most `capacity` requests are out; each has a timer ("stream", request), so that none waits for ever even if a driver never
reports.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from roost.gossip.protocol.config import Address
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.messages import StreamBody
from roost.gossip.protocol.timers import Timers

_GRACE_S = 1.0  # the driver's own deadline strikes first


class Purpose(enum.Enum):
    """Why we asked."""

    JOIN = "join"
    PING = "ping"
    PUSH_PULL = "push_pull"
    COLD_PUSH = "cold_push"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    request: int
    purpose: Purpose
    address: Address
    body: StreamBody
    timeout_s: float


class Streams:
    """The requests of this node."""

    def __init__(self, capacity: int, timers: Timers, counters: Counters) -> None:
        self._capacity = capacity
        self._timers = timers
        self._counters = counters
        self._requests = 0
        self._unsent: list[Asked] = []
        self._waiting: dict[int, Asked] = {}

    def next_request(self) -> int:
        """A number for a new request; it wraps at 32 bits."""
        self._requests = self._requests % 0xFFFF_FFFF + 1
        return self._requests

    def ask(self, asked: Asked, now: float) -> None:
        if len(self._waiting) >= self._capacity:
            self._counters.count("streams_full")
            return
        self._unsent.append(asked)
        self._waiting[asked.request] = asked
        self._timers.set(("stream", asked.request), now + asked.timeout_s + _GRACE_S)

    def drain(self) -> list[Asked]:
        unsent, self._unsent = self._unsent, []
        return unsent

    def settle(self, request: int) -> Asked | None:
        """The request that was answered or failed, once; None if nobody waits for it."""
        self._timers.cancel(("stream", request))
        return self._waiting.pop(request, None)

    def is_asking(self, purpose: Purpose) -> bool:
        return any(asked.purpose is purpose for asked in self._waiting.values())

    def __len__(self) -> int:
        return len(self._waiting)
