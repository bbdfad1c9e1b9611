"""The border to the engines: whatever they raise becomes the failure of one model or of one call.

This is where `Exception` is caught, and the only place: behind an engine are libraries, servers and packages of weights that are not
ours and raise what they like, and one model must not take the others, or the worker, down with it. What an engine is known to raise
passes; the rest is logged with its traceback, once, and named by what it did.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, ModelLoadFailed, RoostError
from roost.service.logs import get_logger
from roost.worker.engines.interface import Engine, GenerationEvent, LoadedModel, Resume, Sampling

log = get_logger()


class Closable(Protocol):
    """A loaded model, or an engine."""

    async def close(self) -> None: ...


async def load(engine: Engine, spec: ModelSpec) -> LoadedModel:
    """See `Engine.load`. Raises ModelLoadFailed and nothing else."""
    try:
        return await engine.load(spec)
    except ModelLoadFailed:
        raise
    except (OSError, MemoryError) as error:
        raise ModelLoadFailed(spec.name, str(error) or type(error).__name__) from error
    except Exception as error:
        log.exception("model_load_broke", model=spec.name, engine=spec.engine)
        raise ModelLoadFailed(spec.name, _told(error)) from error


async def check(engine: Engine, spec: ModelSpec) -> None:
    """See `Engine.check`. Raises ModelLoadFailed and nothing else."""
    try:
        await engine.check(spec)
    except ModelLoadFailed:
        raise
    except OSError as error:
        raise ModelLoadFailed(spec.name, str(error) or type(error).__name__) from error
    except Exception as error:
        log.exception("model_check_broke", model=spec.name, engine=spec.engine)
        raise ModelLoadFailed(spec.name, _told(error)) from error


async def generate(
    model: LoadedModel, name: str, prompt: str, sampling: Sampling, resume: Resume | None = None
) -> AsyncGenerator[GenerationEvent, None]:
    """See `LoadedModel.generate`. Raises no more than that, and NoCapacity where an engine is busy."""
    try:
        async with aclosing(model.generate(prompt, sampling, resume)) as events:
            async for event in events:
                yield event
    except RoostError:
        raise
    except Exception as error:
        log.exception("generation_broke", model=name)
        raise EngineFailed(name, _told(error)) from error


async def wait_lost(model: LoadedModel, name: str) -> str:
    """See `LoadedModel.wait_lost`. A model that cannot be watched counts as lost: nobody would say when it is."""
    try:
        return await model.wait_lost()
    except Exception as error:
        log.exception("model_watch_broke", model=name)
        return _told(error)


async def close(closable: Closable, name: str) -> None:
    """See `LoadedModel.close`. Raises nothing: what could not be closed counts as closed."""
    try:
        await closable.close()
    except Exception:
        log.exception("close_broke", name=name)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
