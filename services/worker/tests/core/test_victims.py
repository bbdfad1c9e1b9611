"""Who leaves memory first."""

from __future__ import annotations

from roost.worker.core.model_cache import ModelCache
from roost.worker.core.residency import Close
from roost.worker.core.victims import CostAware


def loaded(cache: ModelCache, name: str, now: float, size: int = 40) -> None:
    lease = cache.acquire(name, size, now).lease
    cache.loaded(lease.residency, 1, now)
    cache.release(lease, now)


def asked(cache: ModelCache, name: str, times: int, now: float) -> None:
    for _ in range(times):
        cache.release(cache.acquire(name, 40, now).lease, now)


def evicted(cache: ModelCache, name: str, now: float, size: int = 40) -> list[str]:
    effects = cache.acquire(name, size, now).effects
    return [effect.residency.name for effect in effects if isinstance(effect, Close)]


def test_what_is_asked_for_often_stays_though_it_was_used_less_recently() -> None:
    cache = ModelCache(100, victims=CostAware(lambda name: 1.0))
    loaded(cache, "often", 0.0)
    loaded(cache, "seldom", 0.0)
    asked(cache, "often", 20, 1.0)
    asked(cache, "seldom", 1, 9.0)
    assert evicted(cache, "new", 10.0) == ["seldom"]


def test_of_two_asked_for_alike_the_one_that_loads_faster_goes() -> None:
    cache = ModelCache(100, victims=CostAware({"slow": 9.0, "fast": 1.0, "new": 1.0}.__getitem__))
    loaded(cache, "fast", 0.0)
    loaded(cache, "slow", 0.0)
    asked(cache, "slow", 3, 1.0)
    asked(cache, "fast", 3, 2.0)
    assert evicted(cache, "new", 20.0) == ["fast"]


def test_one_large_model_goes_before_a_small_one_that_costs_as_much() -> None:
    cache = ModelCache(100, victims=CostAware(lambda name: 1.0))
    loaded(cache, "small", 0.0, size=20)
    loaded(cache, "large", 0.0, size=80)
    assert evicted(cache, "new", 9.0, size=20) == ["large"]


def test_what_was_just_loaded_stays_where_another_can_go() -> None:
    cache = ModelCache(100, victims=CostAware(lambda name: 10.0))
    loaded(cache, "old", 0.0)
    asked(cache, "old", 9, 99.0)
    loaded(cache, "young", 100.0)
    assert evicted(cache, "new", 101.0) == ["old"]
