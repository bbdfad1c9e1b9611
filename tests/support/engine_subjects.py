"""Engines and models for tests: what each engine is asked to load, and what it must refuse."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.worker.engines.interface import Engine, GeneratedToken, GenerationEvent, LoadedModel, Resume, Sampling
from roost.worker.engines.llamacpp import LlamaCppEngine
from roost.worker.engines.openai import OpenAIEngine
from roost.worker.engines.simulated import SimulatedEngine
from roost.worker.model_store import ModelStore

API_KEY = "only-for-tests"
SERVED_NAME = "tiny"
CONTEXT_TOKENS = 256

needs_cyllama = pytest.mark.skipif(importlib.util.find_spec("cyllama") is None, reason="cyllama is not installed (the extra `llamacpp`)")


@dataclass(frozen=True)
class Subject:
    """One engine under the shared suite: how to make it, a model it can load, and sources it cannot."""

    make: Callable[[], Engine]
    spec: ModelSpec
    bad_specs: tuple[ModelSpec, ...]
    prompt: str = "the cat sat"


async def events_of(model: LoadedModel, prompt: str, sampling: Sampling, resume: Resume | None = None) -> list[GenerationEvent]:
    """A whole generation, or what is left of it."""
    async with aclosing(model.generate(prompt, sampling, resume)) as events:
        return [event async for event in events]


def tokens_in(events: list[GenerationEvent]) -> list[GeneratedToken]:
    return [event for event in events if isinstance(event, GeneratedToken)]


def text_in(events: list[GenerationEvent]) -> str:
    return "".join(token.text for token in tokens_in(events))


def llamacpp_spec(path: Path, **changes: object) -> ModelSpec:
    values = {"name": "tiny", "engine": "llamacpp", "source": f"path:{path}", "size_bytes": 1_000_000, "context_tokens": CONTEXT_TOKENS}
    return ModelSpec(**{**values, "max_parallel": 2, **changes})  # type: ignore[arg-type]  # the dataclass checks its fields


def openai_spec(address: str, name: str = SERVED_NAME, **options: str | float) -> ModelSpec:
    chosen: dict[str, str | int | float | bool] = {"api_key_env": "TEST_KEY", **options}
    return ModelSpec("remote", "openai", f"{address}/v1#{name}", context_tokens=0, max_parallel=4, options=chosen)


def simulated_spec(**changes: object) -> ModelSpec:
    values = {"name": "sim", "engine": "simulated", "source": "published", "size_bytes": 10**9, "context_tokens": CONTEXT_TOKENS}
    return ModelSpec(**{**values, "max_parallel": 2, **changes})  # type: ignore[arg-type]  # the dataclass checks its fields


def llamacpp_engine(folder: Path) -> LlamaCppEngine:
    return LlamaCppEngine(ModelStore(Catalogue(), folder))


def llamacpp_subject(tiny: Path, folder: Path) -> Subject:
    wrong = folder / "wrong.gguf"
    wrong.write_bytes(b"this is no model")
    broken = folder / "broken.gguf"
    broken.write_bytes(tiny.read_bytes()[:200_000])
    bad = tuple(llamacpp_spec(path) for path in (folder / "missing.gguf", wrong, broken, folder))
    return Subject(lambda: llamacpp_engine(folder), llamacpp_spec(tiny), bad)


def openai_subject(address: str) -> Subject:
    bad = (
        openai_spec(address, "another"),
        openai_spec("http://127.0.0.1:9"),
        openai_spec(address, api_key_env="WRONG_KEY"),
        openai_spec(address, api_key_env="ABSENT_KEY"),
    )
    environment = {"TEST_KEY": API_KEY, "WRONG_KEY": "guess"}
    return Subject(lambda: OpenAIEngine(environment=environment), openai_spec(address), bad)


def simulated_subject() -> Subject:
    unreadable = ModelSpec("sim", "llamacpp", "path:x.gguf", 1)
    return Subject(lambda: SimulatedEngine(time_scale=0.001), simulated_spec(), (unreadable,))
