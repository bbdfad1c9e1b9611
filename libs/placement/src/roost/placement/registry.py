"""Policies by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from roost.cluster.errors import InvalidField
from roost.placement.fleet import Fleet
from roost.placement.policies.consistent_hash import ConsistentHash
from roost.placement.policies.least_loaded import LeastLoaded
from roost.placement.policies.policy import Policy
from roost.placement.policies.power_of_two import PowerOfTwo
from roost.placement.policies.round_robin import RoundRobin
from roost.placement.policies.uniform_random import UniformRandom
from roost.placement.policies.weighted_score import WeightedScore
from roost.placement.rng import Rng

POLICIES: Mapping[str, Callable[[Fleet, Rng], Policy]] = MappingProxyType(
    {
        "weighted-score": WeightedScore,
        "random": UniformRandom,
        "round-robin": RoundRobin,
        "least-loaded": LeastLoaded,
        "power-of-two": PowerOfTwo,
        "consistent-hash": ConsistentHash,
    }
)


def policy_names() -> tuple[str, ...]:
    """Every name that `Placer` takes; the default comes first."""
    return tuple(POLICIES)


def policy_factory(name: str) -> Callable[[Fleet, Rng], Policy]:
    """Raises InvalidField, with the names there are."""
    factory = POLICIES.get(name)
    if factory is None:
        raise InvalidField("policy", f"{name!r} is not one of {', '.join(POLICIES)}")
    return factory
