"""What the worker says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pynvml import NVMLError
from steered_engine import MB, catalogue_of
from worker_world import World, generate, world

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.worker_state import GpuSource, Phase
from roost.worker.gpu import GpuMeter
from roost.worker.report import Clocks, Reporter


def reporter_of(here: World) -> Reporter:
    return Reporter(here.runtime.core, GpuMeter(None), epoch=7, clocks=Clocks(monotonic=time.monotonic, wall=lambda: 1_800_000_000.0))


async def test_an_idle_worker_says_what_it_is() -> None:
    async with world() as here:
        state = reporter_of(here).next_report(has_catalogue=True, outcomes=())
        assert (state.epoch, state.sequence, state.timestamp) == (7, 1, 1_800_000_000.0)
        assert [model.name for model in state.catalogue or ()] == ["a", "b", "c"]
        assert (state.models, state.memory_used_bytes, state.queue_depth) == ({}, 0, 0)
        assert (state.gpu_utilization, state.gpu_source) == (0.0, GpuSource.BUSY_SLOTS)


async def test_a_retiring_model_is_not_said_to_be_ready_and_a_waiting_load_says_how_long() -> None:
    async with world(catalogue_of(a=80, b=80)) as here:
        here.engine.hold_tokens()
        running = generate(here.runtime, "a")
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        waiting = generate(here.runtime, "b")
        await waiting.until_accepted()
        state = reporter_of(here).state()
        assert list(state.models) == ["b"]
        assert (state.models["b"].phase, state.models["b"].size_bytes, state.models["b"].queued) == (Phase.LOADING, 0, 1)
        assert state.models["b"].ready_in_s >= 80 / 250
        assert (state.memory_used_bytes, state.busy_slots, state.queue_depth) == (80_000_000, 1, 1)
        here.engine.let_tokens()
        await running.completed()
        await waiting.completed()
        state = reporter_of(here).state()
        assert state.ready_models == ("b",)
        assert state.cache is not None
        assert (state.cache.cold_starts, state.cache.loads, state.cache.evictions) == (2, 2, 1)


async def test_a_load_that_takes_longer_than_expected_is_still_not_ready() -> None:
    async with world(catalogue_of(a=1)) as here:
        here.engine.hold_loads()
        waiting = generate(here.runtime, "a")
        await waiting.until_accepted()
        started = here.runtime.core.cache
        (residency,) = started.resident
        late = Reporter(
            here.runtime.core, GpuMeter(None), epoch=1, clocks=Clocks(monotonic=lambda: residency.load_started_at + 60, wall=lambda: 0.0)
        )
        assert late.state().models["a"].ready_in_s > 0
        here.engine.let_loads()
        await waiting.completed()


async def test_a_model_says_how_many_of_its_requests_can_run_at_once() -> None:
    spec = ModelSpec("a", "simulated", "published", 40 * MB, max_parallel=3)
    async with world(Catalogue([spec]), max_parallel=2) as here:
        here.engine.hold_loads()
        waiting = generate(here.runtime, "a")
        await waiting.until_accepted()
        assert reporter_of(here).state().models["a"].max_parallel == 3  # the catalogue's, until the engine says its own
        here.engine.let_loads()
        await waiting.completed()
        assert reporter_of(here).state().models["a"].max_parallel == 2


async def test_the_catalogue_says_what_a_load_is_expected_to_take_and_then_what_it_took() -> None:
    async with world(catalogue_of(a=50, b=25)) as here:
        here.runtime.core.times.loaded("b", 7.0)
        catalogue = reporter_of(here).next_report(has_catalogue=True, outcomes=()).catalogue
        assert [(model.name, model.load_time_s) for model in catalogue or ()] == [("a", pytest.approx(0.2)), ("b", 7.0)]


async def test_the_devices_are_believed_until_they_cannot_be_read() -> None:
    readings: Iterator[float] = iter([0.75])

    def read() -> float:
        for reading in readings:
            return reading
        raise NVMLError(1)

    meter = GpuMeter(read, interval_s=0.001)
    assert meter.measured is None
    await meter.run()
    assert meter.measured is None, "it was read once, and then no more"


async def test_what_the_devices_say_is_reported_as_theirs() -> None:
    async with world() as here:
        meter = GpuMeter(lambda: 0.75)
        reporter = Reporter(here.runtime.core, meter, epoch=7, clocks=Clocks(monotonic=time.monotonic, wall=time.time))
        assert reporter.state().gpu_source is GpuSource.BUSY_SLOTS
        await meter.sample()
        assert (reporter.state().gpu_utilization, reporter.state().gpu_source) == (0.75, GpuSource.NVML)


async def test_what_has_not_changed_is_said_by_the_same_value_and_what_has_is_not() -> None:
    async with world(catalogue_of(a=1, b=1)) as here:
        await here.runtime.load("a")
        await here.runtime.load("b")
        reporter = reporter_of(here)
        first = reporter.state()
        here.engine.hold_tokens()
        running = generate(here.runtime, "a")
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        second = reporter.state()
        assert second.models["b"] is first.models["b"]
        assert (first.models["a"].in_flight, second.models["a"].in_flight) == (0, 1)
        assert (first.cache, second.cache) != (second.cache, first.cache)
        here.engine.let_tokens()
        await running.completed()
