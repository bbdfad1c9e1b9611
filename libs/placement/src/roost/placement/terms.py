"""What holds for a decider as long as it lives: one value, which a recording carries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from roost.cluster.errors import InvalidField
from roost.placement.dispatcher import AGING_S, MAX_WAITING, WAITING_PER_SLOT
from roost.placement.plans.registry import DEFAULT_PLANS, plan_factory
from roost.placement.registry import DEFAULT_POLICY

LONGEST_WAIT_S: Final = 30.0  # a cluster that has no worker for a request for longer is an outage, and callers should hear of it


@dataclass(frozen=True, slots=True)
class Terms:
    """`decider` begins every decision id, so it must be unique among deciders and their lives. Raises InvalidField.

    `is_view_shared`: other deciders place by views like this one, each as stale in its own way, and must not all choose alike.
    `can_tell`: workers can be told to load a model without a request that goes there; else there are no plans. `lets_wait`: a request
    that might be better off later may wait; else only one for which there is no worker does. A request waits for its deadline at most,
    and for `longest_wait_s`; at most `capacity` do, or `waiting_per_slot` for each slot of the cluster where that is more. Aging raises
    the priority of who waits by one each `aging_s`.
    """

    decider: str
    policy: str = DEFAULT_POLICY
    is_view_shared: bool = False
    can_tell: bool = False
    lets_wait: bool = True
    reservation_bound_s: float = 5.0
    aging_s: float = AGING_S
    longest_wait_s: float = LONGEST_WAIT_S
    capacity: int = MAX_WAITING
    waiting_per_slot: int = WAITING_PER_SLOT
    plans: tuple[str, ...] = DEFAULT_PLANS

    def __post_init__(self) -> None:
        if not 0.0 <= self.reservation_bound_s < math.inf:
            raise InvalidField("reservation_bound_s", f"must be a finite number of seconds, 0 or more (got {self.reservation_bound_s})")
        for name, seconds in (("aging_s", self.aging_s), ("longest_wait_s", self.longest_wait_s)):
            if not 0.0 < seconds < math.inf:
                raise InvalidField(name, f"must be a finite number of seconds above 0 (got {seconds})")
        if self.capacity < 1:
            raise InvalidField("capacity", f"must be 1 or more (got {self.capacity})")
        if self.waiting_per_slot < 0:
            raise InvalidField("waiting_per_slot", f"must be 0 or more (got {self.waiting_per_slot})")
        for plan in self.plans:
            plan_factory(plan)
