"""Whom to probe next, which probes of ours are out, and the probes we relay for others.

Invariants: the ring holds each reachable member once; at most one probe of a member is out; at most `capacity` relays are out.
"""

from __future__ import annotations

from dataclasses import dataclass

from roost.gossip.protocol.config import Address
from roost.gossip.protocol.rng import Rng, shuffle


class Ring:
    """Round robin over a shuffled ring: each member is probed within 2n - 1 rounds (SWIM, section 4.3); newcomers enter at random."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._names: list[str] = []
        self._position = 0

    def insert(self, name: str) -> None:
        position = self._rng.randrange(len(self._names) + 1)
        self._names.insert(position, name)
        if position < self._position:
            self._position += 1

    def remove(self, name: str) -> None:
        position = self._names.index(name)
        del self._names[position]
        if position < self._position:
            self._position -= 1

    def next(self) -> str | None:
        if self._position >= len(self._names):
            shuffle(self._names, self._rng)
            self._position = 0
        if not self._names:
            return None
        self._position += 1
        return self._names[self._position - 1]

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)


@dataclass(slots=True)
class Probe:
    """One probe of our own, unanswered. `stream_request` is 0 until a stream ping is out; `is_void` if we stalled and may not judge."""

    sequence: int
    target: str
    expected_nacks: int = 0
    nacks: int = 0
    stream_request: int = 0
    is_void: bool = False


@dataclass(slots=True)
class Relay:
    """A ping we sent for another member."""

    origin: Address
    origin_sequence: int
    is_nacked: bool = False


class Prober:
    """The ring, the probes and the relays; sequence numbers are shared so that every ack has one meaning."""

    def __init__(self, rng: Rng, capacity: int) -> None:
        self.ring = Ring(rng)
        self.probes: dict[int, Probe] = {}  # by sequence number
        self.relays: dict[int, Relay] = {}
        self._capacity = capacity
        self._sequence = rng.randrange(2**32)  # a late ack to an earlier life of ours means nothing to this one

    def next_sequence(self) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFF_FFFF
        return self._sequence

    def begin(self, target: str) -> Probe:
        probe = Probe(self.next_sequence(), target)
        self.probes[probe.sequence] = probe
        return probe

    def is_probing(self, name: str) -> bool:
        """Whether a probe of `name` is out."""
        return any(probe.target == name for probe in self.probes.values())

    def relay(self, origin: Address, origin_sequence: int) -> int | None:
        """The sequence number for a relayed ping; None if too many are out."""
        if len(self.relays) >= self._capacity:
            return None
        sequence = self.next_sequence()
        self.relays[sequence] = Relay(origin, origin_sequence)
        return sequence
