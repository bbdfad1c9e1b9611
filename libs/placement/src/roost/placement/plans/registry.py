"""Plans by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from roost.cluster.errors import InvalidField
from roost.placement.plans.copies import Copies
from roost.placement.plans.housing import Housing
from roost.placement.plans.plan import Ground, Plan
from roost.placement.plans.spare_memory import SpareMemory

MakePlan = Callable[[Ground], Plan]
PLANS: Mapping[str, MakePlan] = MappingProxyType({"copies": Copies, "spare-memory": SpareMemory, "housing": Housing})
DEFAULT_PLANS: tuple[str, ...] = ("copies", "spare-memory", "housing")


def plan_names() -> tuple[str, ...]:
    """Every name that `Terms` takes."""
    return tuple(PLANS)


def plans_named(names: str) -> tuple[str, ...]:
    """The plans of a list with commas, which may be empty. Raises InvalidField, with the names there are."""
    plans = tuple(filter(None, (name.strip() for name in names.split(","))))
    for name in plans:
        plan_factory(name)
    return plans


def plan_factory(name: str) -> MakePlan:
    """Raises InvalidField, with the names there are."""
    factory = PLANS.get(name)
    if factory is None:
        raise InvalidField("plans", f"{name!r} is not one of {', '.join(PLANS)}")
    return factory
