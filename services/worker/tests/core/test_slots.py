"""Slots and the queue before them, as a pure core."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.errors import NoCapacity
from roost.cluster.worker_state import CacheResult
from roost.worker.core.jobs import Job
from roost.worker.core.residency import Lease, Residency, Stage
from roost.worker.core.slots import Slots


def residency(name: str, *, is_ready: bool = True, max_parallel: int = 8) -> Residency:
    return Residency(key=1, name=name, size_bytes=1, stage=Stage.READY if is_ready else Stage.LOADING, max_parallel=max_parallel)


def job(model: Residency, priority: int = 0) -> Job:
    return Job(model=model.name, priority=priority, accepted_at=0.0, cache_result=CacheResult.HIT, lease=Lease(model))


def start(slots: Slots, now: float = 0.0) -> Job | None:
    granted = slots.next(now)
    if granted is not None:
        granted.lease.is_running = True
        granted.lease.residency.running += 1
    return granted


def test_no_more_jobs_run_than_there_are_slots() -> None:
    slots = Slots(2, queue_capacity=8, aging_s=10.0)
    for _ in range(3):
        slots.admit(job(residency("a")), 0.0)
    granted = [start(slots) for _ in range(3)]
    assert granted[2] is None
    assert (slots.busy, slots.queue_depth, slots.unfinished) == (2, 1, 3)


def test_a_higher_priority_runs_first() -> None:
    slots = Slots(1, queue_capacity=8, aging_s=10.0)
    low, high = job(residency("a"), 1), job(residency("a"), 7)
    slots.admit(low, 0.0)
    slots.admit(high, 0.0)
    assert slots.next(0.0) is high


def test_a_low_priority_that_has_waited_long_enough_runs_before_a_later_high_one() -> None:
    slots = Slots(1, queue_capacity=8, aging_s=1.0)
    low = job(residency("a"), 0)
    slots.admit(low, 0.0)
    slots.admit(job(residency("a"), 5), 6.0)
    assert slots.next(6.0) is low


def test_what_a_job_has_waited_in_a_scheduler_counts() -> None:
    slots = Slots(1, queue_capacity=8, aging_s=1.0)
    low = job(residency("a"), 0)
    slots.admit(job(residency("a"), 5), 0.0)
    assert (slots.position(0, 0.0), slots.position(0, 0.0, 6.0)) == (1, 0)
    slots.admit(low, 0.0, 6.0)
    assert slots.next(0.0) is low


@settings(deadline=None, derandomize=True)
@given(places=st.integers(1, 4), lowest=st.integers(4, 40), highest=st.integers(1, 10), ran_s=st.floats(0.0, 9.0))
def test_the_highest_priority_waits_for_what_runs_and_for_its_own_kind(places: int, lowest: int, highest: int, ran_s: float) -> None:
    slots = Slots(places, queue_capacity=64, aging_s=10.0)
    for _ in range(lowest):
        slots.admit(job(residency("a")), 0.0)
    running = [granted for _ in range(places) if (granted := slots.next(0.0)) is not None]
    urgent = [job(residency("a"), 9) for _ in range(highest)]
    for each in urgent:
        slots.admit(each, ran_s)
    served: list[Job | None] = []
    for _ in urgent:
        slots.leave(running.pop(0))
        served.append(slots.next(ran_s))
        running += [granted for granted in served[-1:] if granted is not None]
    assert [id(granted) for granted in served] == [id(each) for each in urgent]


@settings(deadline=None, derandomize=True)
@given(places=st.integers(1, 4), rivals=st.integers(0, 20))
def test_the_lowest_priority_runs_within_the_aging_bound_though_the_highest_keeps_coming(places: int, rivals: int) -> None:
    slots = Slots(places, queue_capacity=1_000, aging_s=1.0)
    model = residency("a", max_parallel=places)
    lowest = job(model)
    for each in [*(job(model, 9) for _ in range(rivals)), lowest]:
        slots.admit(each, 0.0)
    seconds = 0
    while lowest.granted_at is None:  # each second every slot serves one, and as many come
        seconds += 1
        for granted in [granted for _ in range(places) if (granted := slots.next(float(seconds))) is not None]:
            slots.leave(granted)
        for _ in range(places):
            slots.admit(job(model, 9), float(seconds))
    assert seconds <= 9 * 1.0 + (rivals + 1) / places + 1


def test_a_job_whose_model_is_loading_stands_in_nobodys_way() -> None:
    slots = Slots(1, queue_capacity=8, aging_s=10.0)
    ready = job(residency("b"), 0)
    slots.admit(job(residency("a", is_ready=False), 9), 0.0)
    slots.admit(ready, 0.0)
    assert slots.next(0.0) is ready


def test_a_model_at_its_limit_leaves_the_slot_to_another() -> None:
    slots = Slots(2, queue_capacity=8, aging_s=10.0)
    narrow = residency("a", max_parallel=1)
    other = job(residency("b"), 0)
    slots.admit(job(narrow, 5), 0.0)
    slots.admit(job(narrow, 5), 0.0)
    slots.admit(other, 0.0)
    start(slots)
    assert slots.next(0.0) is other


def test_a_full_queue_refuses_with_the_time_a_place_is_expected_to_take() -> None:
    slots = Slots(1, queue_capacity=1, aging_s=10.0)
    slots.admit(job(residency("a", is_ready=False)), 0.0)
    assert slots.is_full
    refusal = slots.full(2.5)
    assert "1 requests wait for 1 slots" in str(refusal)
    assert refusal.retry_after_s == 2.5
    with pytest.raises(NoCapacity):
        slots.admit(job(residency("a", is_ready=False)), 0.0)


def test_leaving_frees_the_place_wherever_the_job_was() -> None:
    slots = Slots(1, queue_capacity=8, aging_s=10.0)
    running, waiting = job(residency("a")), job(residency("a"))
    slots.admit(running, 0.0)
    slots.admit(waiting, 0.0)
    slots.next(0.0)
    assert (slots.running("a"), slots.queued("a")) == (1, 1)
    slots.leave(waiting)
    slots.leave(running)
    assert (slots.busy, slots.queue_depth, slots.running("a"), slots.queued("a")) == (0, 0, 0, 0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab"), st.booleans()), max_size=40))
def test_every_admitted_job_runs_once_or_leaves(arrivals: list[tuple[int, str, bool]]) -> None:
    slots = Slots(3, queue_capacity=64, aging_s=5.0)
    models = {"a": residency("a", max_parallel=1), "b": residency("b", max_parallel=2)}
    jobs = [job(models[name], priority) for priority, name, _ in arrivals]
    for index, each in enumerate(jobs):
        slots.admit(each, float(index))
    gone = [each for each, (_, _, leaves) in zip(jobs, arrivals, strict=True) if leaves]
    for each in gone:
        slots.leave(each)
    served: list[Job] = []
    running: list[Job] = []
    while len(served) < len(jobs) - len(gone):
        while (granted := start(slots, 100.0)) is not None:
            running.append(granted)
        assert running
        done = running.pop(0)
        done.lease.residency.running -= 1
        slots.leave(done)
        served.append(done)
    assert {id(each) for each in served} == {id(each) for each in jobs} - {id(each) for each in gone}
    assert slots.unfinished == 0


def test_a_job_starts_at_once_only_where_it_would_be_the_next_anyway() -> None:
    slots = Slots(2, queue_capacity=8, aging_s=10.0)
    ready, loading = residency("a"), residency("b", is_ready=False)
    assert not slots.start_at_once(job(loading), 0.0)
    first = job(ready)
    assert slots.start_at_once(first, 1.0)
    assert (first.granted_at, slots.busy, slots.running("a"), slots.queued("a")) == (1.0, 1, 1, 0)
    slots.admit(job(loading), 1.0)
    assert not slots.start_at_once(job(ready), 1.0)  # somebody waits, and is asked first
    slots.leave(first)
    assert (slots.busy, slots.running("a")) == (0, 0)
