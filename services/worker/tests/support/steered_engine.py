"""An engine that does what the test says and nothing before: loads end when opened, tokens come one at a time when allowed.

It implements `roost.worker.engines.interface` honestly: cancelling and closing free what was held; closed models fail generations.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed
from roost.worker.engines.interface import Finished, FinishReason, GeneratedToken, GenerationEvent, PromptRead, Resume, Sampling
from roost.worker.engines.replay import replay_of

MB = 1_000_000
TOO_LONG = "too long for the context"  # a prompt that the engine itself refuses


def catalogue_of(**sizes_mb: int) -> Catalogue:
    """Models by name with their sizes in MB."""
    return Catalogue(
        ModelSpec(name=name, engine="simulated", source="published", size_bytes=size * MB, default_max_tokens=4, max_tokens=1000)
        for name, size in sizes_mb.items()
    )


class SteeredModel:
    def __init__(self, engine: SteeredEngine, spec: ModelSpec) -> None:
        self.spec = spec
        self.running = 0
        self.is_closed = False
        self.crashed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._engine = engine

    @property
    def max_parallel(self) -> int:
        return self._engine.max_parallel

    @property
    def fingerprint(self) -> str:
        return f"engine=steered;model={self.spec.name}"

    async def generate(self, prompt: str, sampling: Sampling, resume: Resume | None = None) -> AsyncGenerator[GenerationEvent, None]:
        if prompt == TOO_LONG:
            raise InvalidField("prompt", "does not fit the context")
        engine = self._engine
        self.running += 1
        engine.most_running = max(engine.most_running, self.running)
        engine.asked.append(sampling)
        try:
            replay = replay_of(resume, self.fingerprint)
            yield PromptRead(len(prompt.split()), replay.approximate_because)
            for index in range(0 if resume is None else resume.first_index, sampling.max_tokens):
                await engine.token_allowed(self)
                if engine.breaks_at == index:
                    raise engine.breaks_with or EngineFailed(self.spec.name, "it was told to break")
                yield GeneratedToken(index + 100, f" {index}")
            yield Finished(FinishReason.LENGTH)
        finally:
            self.running -= 1
            engine.ended.set()

    async def wait_lost(self) -> str:
        return await asyncio.shield(self.crashed)

    async def close(self) -> None:
        if self._engine.close_fails_with is not None:
            raise self._engine.close_fails_with
        self.is_closed = True
        self._engine.memory_mb -= self.spec.size_bytes // MB
        self._engine.wake()

    def crash(self) -> None:
        """Its process dies."""
        self.is_closed = True
        self._engine.wake()
        self.crashed.set_result("its process died")


class SteeredEngine:
    """Everything open by default: `hold_loads`, `hold_tokens` make the test the one who lets things happen."""

    def __init__(self, *, max_parallel: int = 4) -> None:
        self.max_parallel = max_parallel
        self.loads: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.cancelled_loads: list[str] = []
        self.refusing: dict[str, str] = {}
        self.failing: dict[str, str | Exception] = {}
        self.models: dict[str, SteeredModel] = {}
        self.asked: list[Sampling] = []
        self.most_running = 0
        self.memory_mb = 0
        self.peak_mb = 0
        self.breaks_at: int | None = None
        self.breaks_with: Exception | None = None
        self.close_fails_with: Exception | None = None
        self.is_closed = False
        self.ended = asyncio.Event()
        self._loads_open = asyncio.Event()
        self._loads_open.set()
        self._tokens_open = True
        self._allowed = 0
        self._woken = asyncio.Condition()

    def expected_load_s(self, spec: ModelSpec) -> float:
        return spec.size_bytes / MB / 250

    def least_tokens(self, prompt: str) -> int:
        return len(prompt) // 1000

    async def check(self, spec: ModelSpec) -> None:
        self.checks[spec.name] += 1
        if spec.name in self.refusing:
            raise ModelLoadFailed(spec.name, self.refusing[spec.name])

    async def load(self, spec: ModelSpec) -> SteeredModel:
        self.loads[spec.name] += 1
        self.memory_mb += spec.size_bytes // MB
        self.peak_mb = max(self.peak_mb, self.memory_mb)
        self.wake()
        try:
            await self._loads_open.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled_loads.append(spec.name)
            self.memory_mb -= spec.size_bytes // MB
            raise
        if spec.name in self.failing:
            self.memory_mb -= spec.size_bytes // MB
            why = self.failing[spec.name]
            raise why if isinstance(why, Exception) else ModelLoadFailed(spec.name, why)
        self.models[spec.name] = model = SteeredModel(self, spec)
        return model

    async def close(self) -> None:
        self.is_closed = True

    # --- steering -----------------------------------------------------------------------------------

    def hold_loads(self) -> None:
        self._loads_open.clear()

    def let_loads(self) -> None:
        self._loads_open.set()

    def hold_tokens(self) -> None:
        self._tokens_open = False

    def let_tokens(self) -> None:
        self._tokens_open = True
        self.wake()

    def let_one_token(self) -> None:
        self._allowed += 1
        self.wake()

    async def until_loading(self, name: str) -> None:
        """Returns when a load of `name` has begun."""
        async with self._woken:
            await self._woken.wait_for(lambda: self.loads[name] > 0)

    def wake(self) -> None:
        self._pending = asyncio.ensure_future(self._notify())

    async def token_allowed(self, model: SteeredModel) -> None:
        async with self._woken:
            await self._woken.wait_for(lambda: model.is_closed or self._tokens_open or self._allowed > 0)
        if model.is_closed:
            raise EngineFailed(model.spec.name, "it was closed", is_model_lost=True)
        if not self._tokens_open:
            self._allowed -= 1

    async def _notify(self) -> None:
        async with self._woken:
            self._woken.notify_all()
