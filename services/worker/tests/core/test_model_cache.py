"""The model cache as a pure core: values in, effects out."""

from __future__ import annotations

import pytest

from roost.cluster.errors import ModelInUse, ModelLoadFailed, ModelTooLarge, NoCapacity
from roost.cluster.worker_state import CacheResult
from roost.worker.core.model_cache import ModelCache
from roost.worker.core.residency import CacheEffect, Close, Lease, RefuseLeases, Residency, Stage, StartLoad


def acquire(cache: ModelCache, name: str, size: int = 40) -> tuple[Lease, CacheResult, tuple[CacheEffect, ...]]:
    acquired = cache.acquire(name, size, 0.0)
    return acquired.lease, acquired.result, acquired.effects


def ready(cache: ModelCache, name: str, size: int = 40) -> Lease:
    """A lease on a model that was absent and is ready now."""
    lease, result, effects = acquire(cache, name, size)
    assert result is CacheResult.COLD_START
    assert effects == (StartLoad(lease.residency),)
    cache.loaded(lease.residency, 1, 1.0)
    return lease


def idle(cache: ModelCache, name: str, size: int = 40) -> Residency:
    lease = ready(cache, name, size)
    cache.release(lease, 2.0)
    return lease.residency


def evicted(effects: tuple[CacheEffect, ...]) -> list[str]:
    return [effect.residency.name for effect in effects if isinstance(effect, Close) and effect.is_eviction]


def test_a_hundred_requests_for_an_absent_model_cause_one_load() -> None:
    cache = ModelCache(100)
    found = [acquire(cache, "a") for _ in range(100)]
    assert [effect for _, _, effects in found for effect in effects] == [StartLoad(found[0][0].residency)]
    assert [result for _, result, _ in found] == [CacheResult.COLD_START] + [CacheResult.JOIN] * 99


def test_a_ready_model_is_a_hit() -> None:
    cache = ModelCache(100)
    idle(cache, "a")
    assert acquire(cache, "a")[1:] == (CacheResult.HIT, ())


def test_the_least_recently_used_idle_model_makes_room() -> None:
    cache = ModelCache(100)
    idle(cache, "a")
    idle(cache, "b")
    cache.release(acquire(cache, "a")[0], 3.0)
    lease, _, effects = acquire(cache, "c")
    assert evicted(effects) == ["b"]
    assert lease.residency.stage is Stage.WAITING
    closing = next(effect.residency for effect in effects if isinstance(effect, Close))
    assert cache.closed(closing, 4.0) == (StartLoad(lease.residency),)


def test_memory_is_counted_until_the_evicted_model_has_closed() -> None:
    cache = ModelCache(100)
    victim = idle(cache, "a", 80)
    acquire(cache, "b", 80)
    assert (victim.stage, cache.used_bytes) == (Stage.CLOSING, 80)


def test_a_pinned_model_stays_and_the_next_one_goes() -> None:
    cache = ModelCache(100)
    pinned = ready(cache, "a")
    cache.pin(pinned, 1.0)
    cache.release(pinned, 1.0)
    idle(cache, "b")
    assert evicted(acquire(cache, "c")[2]) == ["b"]


def test_a_model_larger_than_the_budget_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelTooLarge) as refused:
        ModelCache(100).acquire("big", 101, 0.0)
    assert (refused.value.size_bytes, refused.value.budget_bytes) == (101, 100)


def test_what_only_pins_keep_out_is_refused_as_no_capacity() -> None:
    cache = ModelCache(100)
    cache.pin(ready(cache, "a", 60), 1.0)
    with pytest.raises(NoCapacity, match="60 bytes of the memory budget of 100 bytes are pinned"):
        cache.acquire("b", 60, 1.0)


def test_a_load_that_waits_is_refused_when_a_pin_makes_it_impossible() -> None:
    cache = ModelCache(100)
    held = ready(cache, "a", 60)
    waiter, _, _ = acquire(cache, "b", 60)
    (refusal,) = cache.pin(held, 1.0)
    assert isinstance(refusal, RefuseLeases)
    assert refusal.leases == (waiter,)
    assert isinstance(refusal.error, NoCapacity)
    assert not held.residency.is_retiring


def test_a_failed_load_fails_everyone_who_waits_and_frees_the_memory() -> None:
    cache = ModelCache(100)
    leases = [acquire(cache, "a")[0] for _ in range(3)]
    error = ModelLoadFailed("a", "no such file")
    (refusal,) = cache.load_failed(leases[0].residency, error, 1.0)
    assert isinstance(refusal, RefuseLeases)
    assert set(refusal.leases) == set(leases)
    assert refusal.error is error
    assert cache.used_bytes == 0
    assert acquire(cache, "a")[1] is CacheResult.COLD_START
    assert all(cache.release(lease, 2.0) == () for lease in leases)


def test_a_failed_load_lets_the_next_in_line_start() -> None:
    cache = ModelCache(100)
    first, _, _ = acquire(cache, "a", 80)
    second, _, _ = acquire(cache, "b", 80)
    effects = cache.load_failed(first.residency, ModelLoadFailed("a", "corrupt"), 1.0)
    assert StartLoad(second.residency) in effects


def test_what_is_in_use_is_not_evicted_but_retires() -> None:
    cache = ModelCache(100)
    held = ready(cache, "a", 80)
    waiter, _, effects = acquire(cache, "b", 80)
    assert effects == ()
    assert held.residency.is_retiring
    assert evicted(cache.release(held, 2.0)) == ["a"]
    assert cache.closed(held.residency, 3.0) == (StartLoad(waiter.residency),)


def test_new_requests_for_a_retiring_model_queue_behind_as_if_it_were_absent() -> None:
    cache = ModelCache(100)
    held = ready(cache, "a", 80)
    acquire(cache, "b", 80)
    late, result, effects = acquire(cache, "a", 80)
    assert (result, effects) == (CacheResult.COLD_START, ())
    assert acquire(cache, "a", 80)[1] is CacheResult.JOIN
    assert late.residency is not held.residency
    assert [residency.name for residency in cache.waiting] == ["b", "a"]


def test_a_model_stops_retiring_when_nobody_needs_its_memory_any_more() -> None:
    cache = ModelCache(100)
    held = ready(cache, "a", 80)
    waiter, _, _ = acquire(cache, "b", 80)
    cache.release(waiter, 2.0)
    assert not held.residency.is_retiring
    assert acquire(cache, "a", 80)[1] is CacheResult.HIT


def test_those_who_queued_behind_a_model_that_stopped_retiring_get_it_back() -> None:
    cache = ModelCache(100)
    held = ready(cache, "a", 80)
    waiter, _, _ = acquire(cache, "b", 80)
    late, _, _ = acquire(cache, "a", 80)
    cache.release(waiter, 2.0)
    assert late.residency is held.residency
    assert list(cache.waiting) == []


def test_loads_get_memory_first_come_first_served() -> None:
    cache = ModelCache(100)
    held = ready(cache, "a", 100)
    big, _, _ = acquire(cache, "b", 100)
    acquire(cache, "c", 10)
    cache.release(held, 2.0)
    assert cache.closed(held.residency, 3.0) == (StartLoad(big.residency),)


def test_a_model_that_takes_no_memory_never_waits_for_any() -> None:
    cache = ModelCache(100)
    ready(cache, "a", 100)
    acquire(cache, "b", 100)
    lease, _, effects = acquire(cache, "remote", 0)
    assert effects == (StartLoad(lease.residency),)


def test_a_waiting_load_that_everyone_gave_up_is_forgotten() -> None:
    cache = ModelCache(100)
    ready(cache, "a", 80)
    waiter, _, _ = acquire(cache, "b", 80)
    cache.release(waiter, 2.0)
    assert waiter.residency.stage is Stage.GONE
    assert list(cache.waiting) == []


def test_a_load_that_everyone_gave_up_makes_room_when_it_is_needed() -> None:
    cache = ModelCache(100)
    gone, _, _ = acquire(cache, "a", 80)
    assert cache.release(gone, 1.0) == ()
    _, _, effects = acquire(cache, "b", 80)
    assert evicted(effects) == ["a"]
    assert cache.loaded(gone.residency, 1, 2.0) == ()
    assert gone.residency.stage is Stage.CLOSING


def test_unloading_what_is_in_use_says_by_how_many() -> None:
    cache = ModelCache(100)
    ready(cache, "a")
    acquire(cache, "a")
    with pytest.raises(ModelInUse) as refused:
        cache.unload("a", 1.0)
    assert refused.value.requests == 2


def test_unloading_puts_even_a_pinned_model_out_and_is_no_eviction() -> None:
    cache = ModelCache(100)
    lease = ready(cache, "a")
    cache.pin(lease, 1.0)
    cache.release(lease, 1.0)
    assert cache.unload("a", 2.0).effects == (Close(lease.residency, is_eviction=False),)
    assert cache.pinned_bytes == 0


def test_unloading_an_absent_model_does_nothing() -> None:
    unloaded = ModelCache(100).unload("a", 1.0)
    assert (unloaded.residency, unloaded.effects) == (None, ())


def test_a_lost_model_is_dropped_and_those_who_wait_for_it_get_a_new_load() -> None:
    cache = ModelCache(100)
    running = ready(cache, "a", 80)
    cache.start(running)
    queued, _, _ = acquire(cache, "a", 80)
    lost = running.residency
    assert cache.lost(lost, 2.0) == (Close(lost, is_eviction=False),)
    cache.release(running, 2.0)
    assert cache.closed(lost, 3.0) == (StartLoad(queued.residency),)
    assert queued.residency is not lost
    assert cache.used_bytes == 80


def test_no_more_requests_run_on_a_model_than_it_can_run_at_once() -> None:
    cache = ModelCache(100)
    first = ready(cache, "a")
    second, _, _ = acquire(cache, "a")
    cache.start(first)
    assert not second.residency.can_run
    cache.release(first, 2.0)
    assert second.residency.can_run


def test_the_line_for_memory_is_bounded() -> None:
    cache = ModelCache(100, max_waiting_loads=1)
    ready(cache, "a", 100)
    acquire(cache, "b", 100)
    with pytest.raises(NoCapacity, match="1 models already wait"):
        cache.acquire("c", 100, 1.0)
