"""Which life of the worker this is, as deciders tell lives apart. Pure.

A decider uses the life with the highest epoch among those that it sees alive. Epochs are read from the wall clock, which may have been set
back between two lives: then the later life has the lower epoch, and raises it above the one that it is told of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_OUTBIDS: Final = 3  # two living workers that share a name could outbid each other for ever: after these, the loser stays refused


@dataclass(slots=True)
class Life:
    """State: the epoch, in Unix nanoseconds as of the start, and how often it was raised. Invariant: the epoch never decreases."""

    epoch: int
    outbids: int = 0

    def outbid(self, told_epoch: int, now_ns: int) -> bool:
        """A decider prefers a life of `told_epoch`. True if that one lies in the future of our clock and the epoch was raised above it.

        A life that our clock has yet to reach began before the clock was set back, so it is an earlier one; any other one that is
        preferred to ours began later.
        """
        if told_epoch <= max(self.epoch, now_ns) or self.outbids >= MAX_OUTBIDS:
            return False
        self.epoch = told_epoch + 1
        self.outbids += 1
        return True
