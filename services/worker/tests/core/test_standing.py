"""Where a request stands while there is no token to tell."""

from __future__ import annotations

from steered_engine import catalogue_of

from roost.worker.core.jobs import Job
from roost.worker.core.standing import ALMOST, GenerationPhase, Standing, reading, waiting
from roost.worker.core.worker_core import Capacity, WorkerCore
from roost.worker.generation import GenerationRequest


def core_of(memory_mb: int = 100) -> WorkerCore:
    capacity = Capacity(memory_mb * 1_000_000, slots=1, queue_capacity=8)
    return WorkerCore("worker-1", catalogue_of(a=80, b=80), capacity, unmeasured_load_s=lambda _spec: 4.0)


def arrive(core: WorkerCore, model: str = "a", now: float = 0.0, priority: int = 0) -> Job:
    return core.arrive(GenerationRequest(model=model, prompt="x", priority=priority), now)


def test_one_that_waits_for_its_model_sees_the_load_go_on() -> None:
    core = core_of()
    job = arrive(core, now=10.0)
    assert waiting(core, job, 11.0) == Standing(GenerationPhase.LOADING, fraction=0.25, eta_s=3.0)
    assert waiting(core, job, 99.0) == Standing(GenerationPhase.LOADING, fraction=ALMOST, eta_s=0.0)


def test_one_whose_model_has_no_memory_yet_hears_how_long_its_load_will_take() -> None:
    core = core_of()
    arrive(core, "a")
    assert waiting(core, arrive(core, "b"), 2.0) == Standing(GenerationPhase.LOADING, eta_s=4.0)


def test_one_that_waits_for_a_slot_hears_how_many_are_before_it() -> None:
    core = core_of()
    first = arrive(core)
    core.loaded(first.lease.residency, 4, 1.0)
    second, third, urgent = arrive(core, now=2.0), arrive(core, now=3.0), arrive(core, now=4.0, priority=9)
    assert [waiting(core, job, 5.0).ahead for job in (urgent, second, third)] == [0, 1, 2]
    assert waiting(core, third, 5.0) == Standing(GenerationPhase.QUEUED, ahead=2, eta_s=3.0 * core.times.mean_service_s())


def test_one_that_reads_hears_how_far_it_has_come() -> None:
    assert reading(0, 0, 5.0) == Standing(GenerationPhase.PREFILL)
    assert reading(100, 400, 5.0) == Standing(GenerationPhase.PREFILL, fraction=0.25, eta_s=15.0)
