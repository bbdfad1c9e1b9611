"""Made-up tokens at published speeds. It never pretends to be real: its text begins with "[simulated]" and is made of syllables."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed
from roost.worker.engines.interface import Finished, FinishReason, GeneratedToken, GenerationEvent, PromptRead, Sampling
from roost.worker.engines.lifeline import Lifeline, LifelineCut
from roost.worker.engines.published import (
    BANDWIDTH_BY_TIER,
    DEFAULT_PROFILE,
    DEFAULT_TIER,
    TIMES_BY_PROFILE,
    SimulatedSpeed,
    estimated_tokens,
)
from roost.worker.engines.text import StopFilter

MARK: Final = "[simulated]"
MARK_ID: Final = 0

_CONSONANTS: Final = "bdfgklmnprstvzhj"
_VOWELS: Final = "aeiou"
_SYLLABLES: Final = tuple(consonant + vowel for consonant in _CONSONANTS for vowel in _VOWELS)
_WORDS: Final = len(_SYLLABLES) ** 2  # two syllables each; ids 1 to 6400
_MARGIN_S: Final = 60.0  # a sleep that ends this late means a loop that stood still


def simulated_tokens(model: str, seed: int, prompt: str, sampling: Sampling) -> Iterator[GeneratedToken]:
    """An endless text, decided by model, seed, sampling and all text so far; so prompt + text so far continues it exactly."""
    choice = (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) if sampling.temperature > 0 else ()
    so_far = hashlib.sha256(repr((model, seed, choice)).encode())
    so_far.update(prompt.encode("utf-8", "replace"))
    if MARK not in prompt:
        so_far.update(f" {MARK}".encode())
        yield GeneratedToken(MARK_ID, f" {MARK}")
    while True:
        number = int.from_bytes(so_far.digest()[:8], "big") % _WORDS
        first, second = divmod(number, len(_SYLLABLES))
        text = f" {_SYLLABLES[first]}{_SYLLABLES[second]}"
        so_far.update(text.encode())
        yield GeneratedToken(number + 1, text)


def speed_of(spec: ModelSpec, time_scale: float) -> SimulatedSpeed:
    """The speed that the entry's options name."""
    own_scale = spec.options.get("time_scale", 1.0)
    return SimulatedSpeed(
        size_bytes=spec.size_bytes,
        bandwidth_bytes_per_s=BANDWIDTH_BY_TIER[str(spec.options.get("tier", DEFAULT_TIER))],
        times=TIMES_BY_PROFILE[str(spec.options.get("profile", DEFAULT_PROFILE))],
        max_parallel=spec.max_parallel,
        time_scale=time_scale * float(own_scale),
    )


class _Pace:
    """Steps that follow each other without a gap: one that ends late, on a busy machine, makes the next one shorter.

    Sleeping each step's length instead would add up how late every sleep ends, some percent of a generation.
    """

    def __init__(self, model: str, lifeline: Lifeline) -> None:
        self._model = model
        self._lifeline = lifeline
        self._now = asyncio.get_running_loop().time
        self._due_at = self._now()

    async def spend(self, seconds: float) -> None:
        """Returns when the step is over. Raises EngineFailed if the model is unloaded meanwhile."""
        self._due_at += seconds
        rest_s = max(0.0, self._due_at - self._now())
        try:
            await self._lifeline.wait(asyncio.sleep(rest_s), rest_s + _MARGIN_S)
        except LifelineCut:
            raise EngineFailed(self._model, "it was unloaded") from None


class SimulatedModel:
    """A model that is ready. Counts its running generations, which slow each other down."""

    def __init__(self, spec: ModelSpec, speed: SimulatedSpeed) -> None:
        self._spec = spec
        self._speed = speed
        self._seed = int(spec.options.get("seed", 0))
        self._lifeline = Lifeline()
        self._running = 0

    @property
    def is_open(self) -> bool:
        """False once it was closed."""
        return not self._lifeline.is_cut

    @property
    def max_parallel(self) -> int:
        return self._spec.max_parallel

    async def generate(self, prompt: str, sampling: Sampling) -> AsyncGenerator[GenerationEvent, None]:
        """See `LoadedModel.generate`."""
        prompt_tokens = self._checked_length(prompt)
        self._running += 1
        pace = _Pace(self._spec.name, self._lifeline)
        try:
            await pace.spend(self._speed.prefill_s(prompt_tokens, self._running))
            yield PromptRead(prompt_tokens)
            stop = StopFilter(sampling.stop)
            tokens = simulated_tokens(self._spec.name, self._seed, prompt, sampling)
            for _ in range(min(sampling.max_tokens, self._spec.context_tokens - prompt_tokens)):
                await pace.spend(self._speed.decode_s(self._running))
                for token in stop.push(next(tokens)):
                    yield token
                if stop.is_stopped:
                    break
            for token in stop.flush():
                yield token
            yield Finished(FinishReason.STOP if stop.is_stopped else FinishReason.LENGTH)
        finally:
            self._running -= 1

    def _checked_length(self, prompt: str) -> int:
        if not prompt:
            raise InvalidField("prompt", "is empty; there is nothing to continue")
        prompt_tokens = estimated_tokens(prompt)
        if prompt_tokens >= self._spec.context_tokens:
            raise InvalidField(
                "prompt",
                f"has about {prompt_tokens} tokens; the context of {self._spec.name} holds {self._spec.context_tokens}, prompt and answer",
            )
        return prompt_tokens

    async def wait_lost(self) -> str:
        """Never returns: nothing can be lost that is not there."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def close(self) -> None:
        """See `LoadedModel.close`."""
        self._lifeline.cut()

    def __repr__(self) -> str:
        return f"<SimulatedModel {self._spec.name}, {self._running}/{self.max_parallel} running{'' if self.is_open else ', closed'}>"


class SimulatedEngine:
    """Loads take size / bandwidth seconds times `time_scale` (0.01: a hundred times faster than published)."""

    def __init__(self, *, time_scale: float = 1.0) -> None:
        self._time_scale = time_scale
        self._loaded: list[SimulatedModel] = []

    def expected_load_s(self, spec: ModelSpec) -> float:
        """See `Engine.expected_load_s`. Exact."""
        return speed_of(spec, self._time_scale).load_s()

    async def check(self, spec: ModelSpec) -> None:
        """See `Engine.check`. Nothing stands behind the entry that could be missing."""
        if spec.source != "published":
            raise ModelLoadFailed(spec.name, f"the simulated engine cannot read the source {spec.source!r}")

    async def load(self, spec: ModelSpec) -> SimulatedModel:
        """See `Engine.load`."""
        await self.check(spec)
        speed = speed_of(spec, self._time_scale)
        await asyncio.sleep(speed.load_s())
        model = SimulatedModel(spec, speed)
        self._loaded = [loaded for loaded in self._loaded if loaded.is_open]
        self._loaded.append(model)
        return model

    async def close(self) -> None:
        """See `Engine.close`."""
        for model in self._loaded:
            await model.close()
        self._loaded.clear()
