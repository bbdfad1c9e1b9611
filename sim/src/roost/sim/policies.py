"""Placement policies by name: every registered one, and those that are for comparison only."""

from __future__ import annotations

from roost.placement.policies.power_of_two import PowerOfTwo
from roost.placement.registry import MakePolicy, policy_factory

POWER_OF = "power-of-"


def policy_named(name: str) -> MakePolicy:
    """Any registered policy, and `power-of-3` and so on. Raises InvalidField with the names there are."""
    count = name.removeprefix(POWER_OF)
    if name.startswith(POWER_OF) and count.isdecimal() and int(count) >= 1:
        choices = int(count)
        return lambda fleet, rng, _costs: PowerOfTwo(fleet, rng, choices)
    return policy_factory(name)
