"""Made-up tokens at published speeds. It never pretends to be real: its text begins with "[simulated]" and is made of syllables."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Final

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed
from roost.worker.engines.interface import Finished, FinishReason, GeneratedToken, GenerationEvent, PromptRead, Resume, Sampling
from roost.worker.engines.lifeline import Lifeline, LifelineCut
from roost.worker.engines.published import (
    BANDWIDTH_BY_TIER,
    DEFAULT_PROFILE,
    DEFAULT_TIER,
    TIMES_BY_PROFILE,
    SimulatedSpeed,
    estimated_tokens,
)
from roost.worker.engines.replay import WEIGHTS, Replay, replay_of, too_long
from roost.worker.engines.text import Telling

MARK: Final = "[simulated]"
MARK_ID: Final = 0

_CONSONANTS: Final = "bdfgklmnprstvzhj"
_VOWELS: Final = "aeiou"
_SYLLABLES: Final = tuple(consonant + vowel for consonant in _CONSONANTS for vowel in _VOWELS)
_WORDS: Final = len(_SYLLABLES) ** 2  # two syllables each; ids 1 to 6400
_MARGIN_S: Final = 60.0  # a sleep that ends this late means a loop that stood still


class SimulatedText:
    """An endless text: each token is decided by model, seed, sampling and all text before it, so that nothing else is carried.

    State: a digest of all that was said. The ids tell the text and the text decides the rest, so either continues it exactly.
    """

    def __init__(self, model: str, seed: int, prompt: str, sampling: Sampling) -> None:
        choice: tuple[float | None, ...] = ()
        if sampling.temperature > 0:
            choice = (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed)
        if sampling.has_penalties:
            choice += (sampling.presence_penalty, sampling.frequency_penalty, sampling.repeat_penalty)
        self._so_far = hashlib.sha256(repr((model, seed, choice)).encode())
        self._so_far.update(prompt.encode("utf-8", "replace"))
        self._is_marked = MARK in prompt

    def next_token(self) -> GeneratedToken:
        """One more."""
        number = int.from_bytes(self._so_far.digest()[:8], "big") % _WORDS
        return self.told(number + 1 if self._is_marked else MARK_ID)

    def told(self, token_id: int) -> GeneratedToken:
        """The token of that id, which is said now. Raises ValueError if there is none."""
        text = text_of_id(token_id)
        self._so_far.update(text.encode())
        self._is_marked = True
        return GeneratedToken(token_id, text)


def text_of_id(token_id: int) -> str:
    """The text of a token. Raises ValueError if no token has that id."""
    if not 0 <= token_id <= _WORDS:
        raise ValueError(f"{token_id} is no token of a simulated model")
    if token_id == MARK_ID:
        return f" {MARK}"
    first, second = divmod(token_id - 1, len(_SYLLABLES))
    return f" {_SYLLABLES[first]}{_SYLLABLES[second]}"


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

    @property
    def fingerprint(self) -> str:
        """See `LoadedModel.fingerprint`."""
        return f"engine=simulated;{WEIGHTS}={self._spec.name};seed={self._seed}"

    async def generate(self, prompt: str, sampling: Sampling, resume: Resume | None = None) -> AsyncGenerator[GenerationEvent, None]:
        """See `LoadedModel.generate`. Resuming takes the time that it would take, and is told as approximate where it would be."""
        prompt_tokens = self._checked_length(prompt)
        replay = replay_of(resume, self.fingerprint)
        text = SimulatedText(self._spec.name, self._seed, prompt + replay.text, sampling)
        telling = _recalled(text, replay, Telling(sampling.stop))
        self._running += 1
        pace = _Pace(self._spec.name, self._lifeline)
        try:
            await pace.spend(self._speed.prefill_s(prompt_tokens, self._running))
            yield PromptRead(prompt_tokens, await self._replay(replay, pace))
            most = min(sampling.max_tokens, self._spec.context_tokens - prompt_tokens)
            for _ in range(0 if resume is None else resume.first_index, 0 if telling.is_stopped else most):
                await pace.spend(self._speed.decode_s(self._running))
                for token in telling.push(text.next_token()):
                    yield token
                if telling.is_stopped:
                    break
            for token in telling.flush():
                yield token
            yield Finished(FinishReason.STOP if telling.is_stopped else FinishReason.LENGTH)
        finally:
            self._running -= 1

    async def _replay(self, replay: Replay, pace: _Pace) -> str:
        """Takes the time of reading what was told; returns why what follows is approximate, empty where it is exact."""
        tokens = len(replay.ids) or (estimated_tokens(replay.text) if replay.text else 0)
        exactly_s = tokens * self._speed.decode_s(self._running)
        if replay.exactly_within_s > 0 and exactly_s <= replay.exactly_within_s:
            await pace.spend(exactly_s)
            return replay.approximate_because
        await pace.spend(self._speed.prefill_s(tokens, self._running) - self._speed.prefill_s(0, self._running))
        return replay.approximate_because or too_long(tokens, exactly_s)

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


def _recalled(text: SimulatedText, replay: Replay, telling: Telling) -> Telling:
    """Brings text and stop filter to where they were when the last token was told. Raises InvalidField for an id that is no token's."""
    if replay.text:
        telling.was_told(GeneratedToken(-1, replay.text))
    for at, token_id in enumerate(replay.ids):
        try:
            telling.was_told(text.told(token_id))
        except ValueError as error:
            raise InvalidField(f"generated.ids[{at}]", f"is {error}") from None
    return telling


class SimulatedEngine:
    """Loads take size / bandwidth seconds times `time_scale` (0.01: a hundred times faster than published)."""

    def __init__(self, *, time_scale: float = 1.0) -> None:
        self._time_scale = time_scale
        self._loaded: list[SimulatedModel] = []

    def expected_load_s(self, spec: ModelSpec) -> float:
        """See `Engine.expected_load_s`. Exact."""
        return speed_of(spec, self._time_scale).load_s()

    def least_tokens(self, prompt: str) -> int:
        """See `Engine.least_tokens`. Exact."""
        return estimated_tokens(prompt)

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
