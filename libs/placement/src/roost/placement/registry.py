"""Policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from roost.cluster.errors import InvalidField
from roost.placement.costs import Costs
from roost.placement.fleet import Fleet
from roost.placement.policies.affinity import Affinity
from roost.placement.policies.consistent_hash import ConsistentHash
from roost.placement.policies.expected_wait import ExpectedWait
from roost.placement.policies.least_loaded import LeastLoaded
from roost.placement.policies.policy import Policy
from roost.placement.policies.power_of_two import PowerOfTwo
from roost.placement.policies.round_robin import RoundRobin
from roost.placement.policies.uniform_random import UniformRandom
from roost.placement.policies.weighted_score import WeightedScore
from roost.placement.rng import Rng

MakePolicy = Callable[[Fleet, Rng, Costs], Policy]


def _costless(policy: Callable[[Fleet, Rng], Policy]) -> MakePolicy:
    """A policy that does not ask what anything costs."""
    return lambda fleet, rng, _costs: policy(fleet, rng)


POLICIES: Mapping[str, MakePolicy] = MappingProxyType(
    {
        "expected-wait": ExpectedWait,
        "weighted-score": _costless(WeightedScore),
        "affinity": _costless(Affinity),
        "random": _costless(UniformRandom),
        "round-robin": _costless(RoundRobin),
        "least-loaded": _costless(LeastLoaded),
        "power-of-two": _costless(PowerOfTwo),
        "consistent-hash": _costless(ConsistentHash),
    }
)
DEFAULT_POLICY = "expected-wait"


def policy_names() -> tuple[str, ...]:
    """Every name that `Placer` takes; the default comes first."""
    return tuple(POLICIES)


def policy_factory(name: str) -> MakePolicy:
    """Raises InvalidField, with the names there are."""
    factory = POLICIES.get(name)
    if factory is None:
        raise InvalidField("policy", f"{name!r} is not one of {', '.join(POLICIES)}")
    return factory
