"""Which of the models that may leave memory leaves first: the least recently used, or the one whose absence costs least. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from roost.placement.costs import RESIDENCY_LOADS
from roost.placement.demand import Demand, cost_of_absence_s
from roost.worker.core.residency import Residency

Rank = tuple[float, ...]
"""Smaller leaves sooner."""


class VictimOrder(Protocol):
    """How a cache orders those that it may put out."""

    def used(self, name: str, now: float) -> None:
        """One more request asks for the model."""

    def rank(self, residency: Residency, now: float) -> Rank:
        """Among models that are equally free to go, the smallest rank goes first."""


class LeastRecentlyUsed:
    """Needs no measurement. Behaves badly where models differ in size and load time, and where more are in turn used than fit."""

    def used(self, name: str, now: float) -> None:
        """The cache keeps the order of use itself."""

    def rank(self, residency: Residency, now: float) -> Rank:
        del now
        return (residency.last_use,)


class CostAware:
    """The model goes whose absence is expected to cost least for each byte: as often as it is asked for here, as long as its load takes.

    One that was just loaded stays for RESIDENCY_LOADS, where another can go. State: how often each model is asked for here.
    Behaves badly until it has seen a load's worth of requests, and where other workers have copies that it does not know of.
    """

    def __init__(self, load_s: Callable[[str], float]) -> None:
        self._load_s = load_s
        self._demand = Demand()

    def used(self, name: str, now: float) -> None:
        self._demand.arrived(name, now)

    def rank(self, residency: Residency, now: float) -> Rank:
        load_s = self._load_s(residency.name)
        is_young = now < residency.ready_at + RESIDENCY_LOADS * load_s
        cost_s = cost_of_absence_s(self._demand.rate(residency.name, now), load_s)
        return (is_young, cost_s / residency.size_bytes, residency.last_use)
