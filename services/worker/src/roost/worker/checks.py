"""Looks at a model before room is made for it: what can be seen to fail puts nobody out and takes no slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import InvalidField, ModelLoadFailed
from roost.service.logs import get_logger
from roost.worker.engines import border
from roost.worker.engines.interface import Engine

CHECK_TIMEOUT_S: Final = 30.0  # a vocabulary on a slow disk; servers have a limit of their own
REMEMBERED_S: Final = 0.5  # how long a failure answers for the next who ask, so that they do not knock all at once; less than deciders wait
MAX_REMEMBERED: Final = 1024

log = get_logger()


class Checks:
    """State: the looks under way, which all who want the model share, and what failed a moment ago."""

    def __init__(self, engines: Mapping[str, Engine], *, clock: Callable[[], float]) -> None:
        self._engines = engines
        self._clock = clock
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[float, ModelSpec, str]] = {}
        self._taps: list[Callable[[ModelLoadFailed], None]] = []

    def tap(self, tap: Callable[[ModelLoadFailed], None]) -> None:
        """`tap` is called once for each look that finds that a model cannot be loaded."""
        self._taps.append(tap)

    def check_prompt(self, spec: ModelSpec, prompt: str) -> None:
        """Raises InvalidField for a prompt that is longer than the context, whatever its tokens are."""
        engine = self._engines.get(spec.engine)
        least = 0 if engine is None or not spec.context_tokens else engine.least_tokens(prompt)
        if least >= spec.context_tokens > 0:
            limit = spec.context_tokens
            raise InvalidField(
                "prompt", f"has {len(prompt)} characters, {least} tokens or more; the context holds {limit}, prompt and answer"
            )

    async def look(self, spec: ModelSpec) -> None:
        """Raises ModelLoadFailed, naming what is wrong."""
        failed = self._failed.get(spec.name)
        if failed is not None and failed[1] == spec and self._clock() < failed[0] + REMEMBERED_S:
            raise ModelLoadFailed(spec.name, failed[2])
        looking = self._looking.get(spec.name)
        if looking is None:
            looking = self._looking[spec.name] = asyncio.create_task(self._look(spec), name=f"look at {spec.name}")
            looking.add_done_callback(lambda _: self._looking.pop(spec.name))
        await asyncio.shield(looking)
        if (failed := self._failed.get(spec.name)) is not None:
            raise ModelLoadFailed(spec.name, failed[2])

    async def _look(self, spec: ModelSpec) -> None:
        """Never raises: nobody may be left to hear it."""
        was = self._failed.pop(spec.name, None)
        why = await self._what_is_wrong(spec)
        if not why:
            return
        if was is None or was[2] != why:
            log.warning("model_cannot_load", model=spec.name, why=why)
        if len(self._failed) >= MAX_REMEMBERED:
            self._failed.clear()
        self._failed[spec.name] = (self._clock(), spec, why)
        for tap in self._taps:
            tap(ModelLoadFailed(spec.name, why))

    async def _what_is_wrong(self, spec: ModelSpec) -> str:
        engine = self._engines.get(spec.engine)
        if engine is None:
            return f"this worker has no engine named {spec.engine}"
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await border.check(engine, spec)
        except ModelLoadFailed as error:
            return error.why
        except TimeoutError:
            return f"looking at its source took longer than {CHECK_TIMEOUT_S:g} s"
        return ""

    def __repr__(self) -> str:
        return f"<Checks {len(self._looking)} under way, {len(self._failed)} failed>"
