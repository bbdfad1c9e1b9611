"""Plans by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from roost.cluster.errors import InvalidField
from roost.placement.plans.copies import Copies
from roost.placement.plans.plan import Plan

PLANS: Mapping[str, Callable[[], Plan]] = MappingProxyType({"copies": Copies})
DEFAULT_PLANS: tuple[str, ...] = ("copies",)


def plan_names() -> tuple[str, ...]:
    """Every name that `Terms` takes."""
    return tuple(PLANS)


def plan_factory(name: str) -> Callable[[], Plan]:
    """Raises InvalidField, with the names there are."""
    factory = PLANS.get(name)
    if factory is None:
        raise InvalidField("plans", f"{name!r} is not one of {', '.join(PLANS)}")
    return factory
