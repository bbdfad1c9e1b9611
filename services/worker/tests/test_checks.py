"""What has no hope is refused before anything is loaded, put out or waited for."""

from __future__ import annotations

import asyncio

import pytest
from steered_engine import SteeredEngine, catalogue_of
from worker_world import generate, world

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.errors import InvalidField, ModelLoadFailed
from roost.cluster.worker_state import Failing
from roost.placement.failures import FIRST_BACKOFF_S, JITTER
from roost.worker.checks import REMEMBERED_S, Checks

SPEC = ModelSpec("a", "simulated", "published", 1)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_model_that_cannot_load_puts_nobody_out() -> None:
    async with world(catalogue_of(good=80, broken=80)) as made:
        await generate(made.runtime, "good").completed()
        made.engine.refusing["broken"] = "its file is cut"
        for _ in range(4):
            with pytest.raises(ModelLoadFailed, match="its file is cut"):
                await generate(made.runtime, "broken").completed()
        with pytest.raises(ModelLoadFailed, match="its file is cut"):
            await made.runtime.load("broken")
        assert made.engine.loads == {"good": 1}
        assert made.runtime.core.failures.told == {"broken": Failing(1, 0, "its file is cut")}  # it was looked at once within a second
        assert [residency.name for residency in made.runtime.core.cache.resident] == ["good"]
        assert made.runtime.core.slots.unfinished == 0


async def test_a_model_that_was_mended_is_loaded() -> None:
    clock, engine = Clock(), SteeredEngine()
    checks = Checks({"simulated": engine}, clock=clock)
    engine.refusing["a"] = "its server is down"
    with pytest.raises(ModelLoadFailed):
        await checks.look(SPEC)
    del engine.refusing["a"]
    with pytest.raises(ModelLoadFailed):
        await checks.look(SPEC)
    assert engine.checks["a"] == 1
    clock.now += REMEMBERED_S
    await checks.look(SPEC)
    await checks.look(SPEC)
    assert engine.checks["a"] == 3


async def test_an_entry_that_was_changed_is_looked_at_again_at_once() -> None:
    engine = SteeredEngine()
    checks = Checks({"simulated": engine}, clock=Clock())
    engine.refusing["a"] = "x"
    with pytest.raises(ModelLoadFailed):
        await checks.look(SPEC)
    del engine.refusing["a"]
    await checks.look(ModelSpec("a", "simulated", "published", 2))


async def test_all_who_want_a_model_share_one_look() -> None:
    engine = SteeredEngine()
    checks = Checks({"simulated": engine}, clock=Clock())
    looks = [asyncio.create_task(checks.look(SPEC)) for _ in range(5)]
    await asyncio.sleep(0)
    looks[0].cancel()
    await asyncio.gather(*looks[1:])
    assert engine.checks["a"] == 1


async def test_an_engine_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelLoadFailed, match="no engine named simulated"):
        await Checks({}, clock=Clock()).look(SPEC)


async def test_a_prompt_that_cannot_fit_loads_nothing_and_puts_nobody_out() -> None:
    catalogue = Catalogue(
        [ModelSpec(name, "simulated", "published", 80_000_000, context_tokens=8, max_tokens=4, default_max_tokens=4) for name in "ab"]
    )
    async with world(catalogue) as made:
        await generate(made.runtime, "a").completed()
        for model in "ab":
            with pytest.raises(InvalidField, match="the context holds 8"):
                await generate(made.runtime, model, "x" * 8000).completed()
        assert made.engine.loads == {"a": 1}
        await generate(made.runtime, "a", "x" * 7999).completed()


async def test_a_model_that_is_there_is_not_looked_at() -> None:
    async with world() as made:
        await generate(made.runtime).completed()
        made.engine.refusing["a"] = "gone"
        await generate(made.runtime).completed()
        assert made.engine.checks["a"] == 1


def test_a_failure_is_forgotten_before_a_decider_asks_again() -> None:
    assert REMEMBERED_S < FIRST_BACKOFF_S * (1.0 - JITTER)
