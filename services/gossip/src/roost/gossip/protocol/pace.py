"""How much state traffic the byte budget allows: a smoothed rate decides fan-out and interval, a token bucket is the hard stop.

Membership frames are counted but never held back. Invariants: 1 <= fanout <= StateParameters.fanout;
interval_s <= current interval <= max_interval_s.
"""

from __future__ import annotations

import math

from roost.gossip.protocol.config import StateParameters

_SMOOTHING_S = 2.0  # ten rounds: reacts within seconds, ignores single bursts
_HIGH = 0.9  # of the budget: the measured rate trails the true one
_LOW = 0.7
_STRETCH = 1.15
_BURST_S = 1.0  # what may be sent at once after silence, in seconds of budget


class Pace:
    """The controller of one node's state traffic."""

    def __init__(self, parameters: StateParameters, now: float) -> None:
        self._parameters = parameters
        self.fanout = parameters.fanout
        self.interval_s = parameters.interval_s
        self.rate_bytes_per_s = 0.0
        self._spent = 0
        self._tokens = parameters.bytes_per_s * _BURST_S
        self._filled_at = now
        self._adjusted_at = now

    def spend(self, size_bytes: int) -> None:
        """That much was sent, whatever it was."""
        self._spent += size_bytes
        self._tokens -= size_bytes

    def has_room(self, now: float) -> bool:
        """Whether a state frame may be sent now."""
        budget = self._parameters.bytes_per_s
        self._tokens = min(budget * _BURST_S, self._tokens + budget * (now - self._filled_at))
        self._filled_at = now
        return self._tokens > 0

    def adjust(self, now: float) -> None:
        """Once a round: follow the measured rate."""
        elapsed = now - self._adjusted_at
        if elapsed <= 0:
            return
        weight = 1.0 - math.exp(-elapsed / _SMOOTHING_S)
        self.rate_bytes_per_s += weight * (self._spent / elapsed - self.rate_bytes_per_s)
        self._spent, self._adjusted_at = 0, now
        if self.rate_bytes_per_s > _HIGH * self._parameters.bytes_per_s:
            self._slow_down()
        elif self.rate_bytes_per_s < _LOW * self._parameters.bytes_per_s:
            self._speed_up()

    def _slow_down(self) -> None:
        if self.interval_s < 1.5 * self._parameters.interval_s or self.fanout == 1:
            self.interval_s = min(self._parameters.max_interval_s, self.interval_s * _STRETCH)
        else:
            self.fanout -= 1

    def _speed_up(self) -> None:
        if self.interval_s > self._parameters.interval_s:
            self.interval_s = max(self._parameters.interval_s, self.interval_s / _STRETCH)
        elif self.fanout < self._parameters.fanout:
            self.fanout += 1

    def __repr__(self) -> str:
        return f"<Pace {self.rate_bytes_per_s / 1000:.1f} KB/s, {self.fanout} every {self.interval_s:.2f} s>"
