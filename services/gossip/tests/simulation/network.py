"""The network as an object: what it does to a datagram or a stream depends on its faults and on one seeded source of chance."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from roost.gossip.protocol.config import Address


@dataclass(frozen=True, slots=True)
class Weather:
    """The faults of one tick."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_s: float = 0.001
    jitter_s: float = 0.0
    has_streams: bool = True


class Network:
    """Decides when, how often and whether something arrives. `cut` holds the (source, target) pairs that do not reach each other."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.weather = Weather()
        self.cut: set[tuple[Address, Address]] = set()
        self.counts: Counter[str] = Counter()

    def datagram(self, source: Address, target: Address) -> list[float]:
        """The delays of the copies that arrive: none, one or two."""
        self.counts["sent"] += 1
        if (source, target) in self.cut:
            self.counts["cut"] += 1
            return []
        weather, rng = self.weather, self._rng
        if weather.loss and rng.random() < weather.loss:
            self.counts["lost"] += 1
            return []
        delays = [self._delay()]
        if weather.duplication and rng.random() < weather.duplication:
            self.counts["duplicated"] += 1
            delays.append(self._delay())
        return delays

    def stream(self, source: Address, target: Address) -> float | None:
        """The delay of one message of a stream, retransmissions included; None if nothing gets through."""
        if (source, target) in self.cut or (target, source) in self.cut or not self.weather.has_streams:
            self.counts["streams_cut"] += 1
            return None
        delay = 2 * self._delay()
        while self._rng.random() < self.weather.loss:
            delay += 0.2
        return delay

    def _delay(self) -> float:
        jitter = self.weather.jitter_s
        if jitter:
            self.counts["jittered"] += 1
            return self.weather.delay_s + jitter * self._rng.random()
        return self.weather.delay_s * (0.8 + 0.4 * self._rng.random())
