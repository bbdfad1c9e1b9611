"""Whatever an engine's library raises: one model, or one call, has failed, and the worker lives on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from steered_engine import SteeredEngine
from worker_world import DEADLINE_S, generate, serving, settings_for, world

from roost.cluster.errors import EngineFailed, ModelLoadFailed
from roost.cluster.worker_state import CacheResult
from roost.worker.app import worker
from roost.worker.runtime import Runtime

BROKEN = """
[models.pk]
engine = "llamacpp"
source = "package:json"
size = "1MB"

[models.remote]
engine = "openai"
source = "http://127.0.0.1:9/v1#m"
options = { api_key_env = "ROOST_TEST_BORDER_KEY" }

[models.fine]
engine = "simulated"
source = "published"
size = "1MB"
options = { time_scale = 0.001 }
"""


@pytest.mark.parametrize(
    "error", [AttributeError("module 'json' has no attribute 'assemble'"), UnicodeEncodeError("ascii", "\xe9", 0, 1, "x")]
)
async def test_an_unexpected_error_of_a_load_fails_that_load_only(error: Exception) -> None:
    async with world() as here:
        here.engine.failing["a"] = error
        with pytest.raises(ModelLoadFailed, match=type(error).__name__):
            await generate(here.runtime, "a").completed()
        await generate(here.runtime, "b").completed()
        del here.engine.failing["a"]
        await generate(here.runtime, "a").completed()
        assert here.count("roost_model_loads_total", model="a", result="failed") == 1


async def test_an_unexpected_error_of_a_generation_fails_that_call_only() -> None:
    async with world() as here:
        here.engine.breaks_at, here.engine.breaks_with = 1, KeyError("choices")
        with pytest.raises(EngineFailed, match="KeyError"):
            await generate(here.runtime).completed()
        here.engine.breaks_at = None
        assert (await generate(here.runtime).completed()).cache_result is CacheResult.HIT


async def test_a_model_that_cannot_be_closed_is_gone_all_the_same() -> None:
    async with world() as here:
        await here.runtime.load("a")
        here.engine.close_fails_with = ValueError("already closed")
        assert await here.runtime.unload("a")
        assert here.runtime.core.cache.used_bytes == 0
        await generate(here.runtime, "b").completed()


async def test_a_watch_that_breaks_loses_its_model_only() -> None:
    async with world() as here:
        await here.runtime.load("a")
        await here.runtime.load("b")
        here.engine.models["a"].crashed.set_exception(ConnectionResetError("the watch broke"))
        await here.until(lambda: here.runtime.core.cache.find("a") is CacheResult.COLD_START)
        assert here.runtime.core.cache.find("b") is CacheResult.HIT
        await generate(here.runtime, "a").completed()


async def test_an_engine_that_cannot_be_closed_does_not_keep_the_worker_from_stopping(tmp_path: Path) -> None:
    class Stubborn(SteeredEngine):
        async def close(self) -> None:
            raise ValueError("not now")

    (tmp_path / "models.toml").write_text(BROKEN)
    async with asyncio.timeout(DEADLINE_S), serving(settings_for(models=tmp_path / "models.toml"), Stubborn()):
        pass


async def test_a_catalogue_of_broken_entries_leaves_the_worker_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_TEST_BORDER_KEY", "schl\xfcssel")
    (tmp_path / "models.toml").write_text(BROKEN)
    settings = settings_for(models=tmp_path / "models.toml", roost_models_dir=tmp_path)
    async with asyncio.timeout(DEADLINE_S), worker(settings) as running:
        for name in ("pk", "remote"):
            await assert_load_fails(running.runtime, name)
        assert (await running.runtime.load("fine")).cache_result is CacheResult.COLD_START


async def assert_load_fails(runtime: Runtime, name: str) -> None:
    with pytest.raises(ModelLoadFailed, match=name):
        await runtime.load(name)
