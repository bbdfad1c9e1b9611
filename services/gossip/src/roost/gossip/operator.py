"""What an operator may ask of a sidecar besides decisions: who is there, join, leave, and the keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from roost.cluster.errors import InvalidField
from roost.gossip.driver import Driver
from roost.gossip.keys import Keys
from roost.gossip.roster import Roster
from roost.gossip.settings import MAX_SEEDS, parse_seeds
from roost.v1 import gossip_pb2


@dataclass(frozen=True, slots=True)
class Operator:
    """`left` is set when the sidecar is asked to end."""

    driver: Driver
    roster: Roster
    keys: Keys
    left: asyncio.Event

    @property
    def epoch(self) -> int:
        """Which life of the sidecar this is."""
        return self.driver.node.identity.epoch

    def members(self, now: float) -> gossip_pb2.GetMembersResponse:
        return self.roster.to_wire(now)

    def join(self, seeds: Sequence[str]) -> None:
        """Raises InvalidField."""
        if not 1 <= len(seeds) <= MAX_SEEDS:
            raise InvalidField("seeds", f"names {len(seeds)} sidecars; it must name 1-{MAX_SEEDS}")
        try:
            self.driver.join(parse_seeds(",".join(seeds)))
        except ValueError as error:
            raise InvalidField("seeds", str(error)) from error

    def leave(self) -> None:
        """The process says goodbye and ends."""
        self.left.set()
