"""Real generation from GGUF files by llama.cpp: one child process for each loaded model.

A child, because loading holds the interpreter lock for seconds, because a mistake in native code ends a process, and because killing
it gives all memory back at once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed, RoostError
from roost.worker.engines.child_process import ChildProcess
from roost.worker.engines.frames import Message, Value, text_of, whole_of
from roost.worker.engines.installed import MISSING
from roost.worker.engines.interface import Finished, FinishReason, GeneratedToken, GenerationEvent, PromptRead, Reading, Resume, Sampling
from roost.worker.engines.replay import WEIGHTS, Replay, replay_of
from roost.worker.engines.stillness import CHECK_S, Stillness
from roost.worker.engines.text import MOST_CHARACTERS_PER_TOKEN

DEFAULT_BATCH_TOKENS: Final = 64  # reads a prompt as fast as wider ones on one core, and is the longest a cancel or a turn waits
START_S: Final = 1.0  # of a child process, before it reads: 253 MB took 1.2 s (Gemma 3 270M, two cores)
LOAD_BYTES_PER_S: Final = 1.0e9  # read, and repacked for the processor
LOAD_TIMEOUT_S: Final = 900.0  # a 70-billion-parameter model from a slow disk
SILENCE_TIMEOUT_S: Final = 300.0  # no step of any model that fits one machine takes as long
DEFAULT_PATIENCE_S: Final = 3.0  # a process that may run at all gets some processor time in far less
LOAD_PATIENCE: Final = 10.0  # times as long: who reads from a slow disk may use next to no processor time

_LAST: Final = ("finished", "refused", "failed")  # what a child's last word on a generation is
_CHILD: Final = "roost.worker.engines.llamacpp_child"
_ENVIRONMENT: Final = {"GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1"}  # an abort must not start a debugger

Answer = Message | RoostError
T = TypeVar("T")


class FileSource(Protocol):
    """Where GGUF files come from."""

    async def file_of(self, spec: ModelSpec) -> Path:
        """The file, made ready first where it is not. Raises ModelLoadFailed."""

    async def check(self, spec: ModelSpec) -> None:
        """Raises ModelLoadFailed if it can be seen that there will be no file, or that it is no whole model."""

    async def sha256_of(self, spec: ModelSpec, path: Path) -> str:
        """The file's digest in hexadecimal. Raises ModelLoadFailed."""


def batch_tokens_of(spec: ModelSpec) -> int:
    """In how large pieces prompts are read."""
    return int(spec.options.get("batch_tokens", DEFAULT_BATCH_TOKENS))


class LlamaCppModel:
    """A child with weights in it. Answers are sorted by generation; the child's death answers all of them."""

    def __init__(self, spec: ModelSpec, *, patience_s: float = DEFAULT_PATIENCE_S) -> None:
        self._spec = spec
        self._patience_s = patience_s
        self._child: ChildProcess | None = None
        self._answers: dict[int, asyncio.Queue[Answer]] = {}
        self._owed: set[int] = set()  # generations that the child has not ended
        self._messages = 0
        self._last_id = 0
        self._fingerprint = "engine=llamacpp"
        self._is_closed = False
        self._loaded: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def max_parallel(self) -> int:
        return self._spec.max_parallel

    @property
    def fingerprint(self) -> str:
        """See `LoadedModel.fingerprint`."""
        return self._fingerprint

    @property
    def is_open(self) -> bool:
        """False once it was closed or lost."""
        return not (self._is_closed or self._lost.done())

    @property
    def pid(self) -> int:
        """The child's process id; 0 before it has one."""
        return self._child.pid if self._child else 0

    async def open(self, path: Path, sha256: Awaitable[str], threads: int) -> None:
        """Starts the child and waits until the weights are in memory, and their digest is known.

        Raises ModelLoadFailed; leaves nothing behind if it fails.
        """
        is_open = False
        try:
            self._child = await ChildProcess.spawn([sys.executable, "-m", _CHILD], self._sort, self._mourn, environment=_ENVIRONMENT)
            self._child.send(self._load_order(path, threads))
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                answer = await self._watched(self._loaded, self._patience_s * LOAD_PATIENCE)
                self._fingerprint = f"{answer.get('fingerprint')};{WEIGHTS}={await sha256}"
            if answer.get("is") != "ready":
                raise ModelLoadFailed(self._spec.name, self._why_not(path, str(answer.get("why"))))
            is_open = True
        except TimeoutError:
            raise ModelLoadFailed(self._spec.name, f"{path} was not in memory after {LOAD_TIMEOUT_S:.0f} s") from None
        except OSError as error:
            raise ModelLoadFailed(self._spec.name, f"its process could not be started: {error}") from error
        finally:
            if not is_open:
                await self.close()

    async def _watched(self, awaited: asyncio.Future[T], patience_s: float) -> T:
        """What is awaited; meanwhile a child that stands still counts as lost."""
        stillness = Stillness(patience_s)
        while self._child is not None and not (await asyncio.wait({awaited}, timeout=CHECK_S))[0]:
            owes = bool(self._owed) or not self._loaded.done()
            ticks = self._child.processor_ticks() if owes else None
            if stillness.look(owes=owes, messages=self._messages, processor_ticks=ticks):
                self._mourn(f"its process did nothing for {patience_s:g} s")
        return await asyncio.shield(awaited)

    def _is_ready(self) -> bool:
        return self._loaded.done() and not self._loaded.cancelled() and self._loaded.result().get("is") == "ready"

    def _why_not(self, path: Path, why: str) -> str:
        words = self._child.last_words() if self._child else ""
        named = why if str(path) in why else f"{path}: {why}"
        return f"{named} ({words})" if words and words not in why else named

    def _load_order(self, path: Path, threads: int) -> Message:
        return {
            "do": "load",
            "path": str(path),
            "context_tokens": self._spec.context_tokens,
            "batch_tokens": batch_tokens_of(self._spec),
            "threads": int(self._spec.options.get("threads", threads)),
            "parallel": self._spec.max_parallel,
        }

    async def generate(self, prompt: str, sampling: Sampling, resume: Resume | None = None) -> AsyncGenerator[GenerationEvent, None]:
        """See `LoadedModel.generate`."""
        if not prompt:
            raise InvalidField("prompt", "is empty; there is nothing to continue")
        _check_surrogates("prompt", prompt)
        if self._child is None or not self.is_open:
            raise self._failure()
        replay = replay_of(resume, self.fingerprint)
        _check_surrogates("generated.text", replay.text)
        self._last_id += 1
        generation_id = self._last_id
        answers = self._answers[generation_id] = asyncio.Queue()
        self._owed.add(generation_id)
        self._child.send(_start_order(generation_id, prompt, sampling) | _resume_order(replay, resume))
        is_over = False
        try:
            while not is_over:
                event = self._event(await self._next_answer(answers))
                is_over = isinstance(event, Finished)
                yield event
        finally:
            del self._answers[generation_id]
            self._owed.discard(generation_id)
            if not is_over:
                self._child.send({"do": "cancel", "id": generation_id})

    async def _next_answer(self, answers: asyncio.Queue[Answer]) -> Message:
        try:
            async with asyncio.timeout(SILENCE_TIMEOUT_S):
                answer = await answers.get()
        except TimeoutError:
            why = f"its process said nothing for {SILENCE_TIMEOUT_S:.0f} s"
            raise EngineFailed(self._spec.name, why, is_model_lost=True) from None
        if isinstance(answer, RoostError):
            raise answer
        return answer

    def _event(self, answer: Message) -> GenerationEvent:
        match answer.get("is"):
            case "reading":
                return Reading(whole_of(answer, "read"), whole_of(answer, "of"))
            case "prompt_read":
                return PromptRead(whole_of(answer, "tokens"), text_of(answer, "approximate_because"))
            case "token":
                return GeneratedToken(whole_of(answer, "token"), text_of(answer, "text"))
            case "finished":
                return Finished(FinishReason(text_of(answer, "reason")))
            case "refused":
                raise InvalidField(text_of(answer, "field"), text_of(answer, "why"))
            case _:
                raise EngineFailed(self._spec.name, str(answer.get("why")))

    async def wait_lost(self) -> str:
        """See `LoadedModel.wait_lost`. The watch over the child lasts as long as somebody waits here."""
        return await self._watched(self._lost, self._patience_s)

    async def close(self) -> None:
        """See `LoadedModel.close`."""
        self._is_closed = True
        self._answer_all()
        if self._child is not None:
            await self._child.kill()

    def _sort(self, message: Message) -> None:
        self._messages += 1
        if message.get("is") in ("ready", "load_failed"):
            if not self._loaded.done():
                self._loaded.set_result(message)
            return
        generation_id = whole_of(message, "id")
        if message.get("is") in _LAST:
            self._owed.discard(generation_id)
        answers = self._answers.get(generation_id)
        if answers is not None:  # else it was cancelled
            answers.put_nowait(message)

    def _mourn(self, why: str) -> None:
        if not self._loaded.done():
            self._loaded.set_result({"is": "load_failed", "why": why})
        if not self._is_closed and not self._lost.done():
            self._lost.set_result(why)
        self._answer_all()

    def _answer_all(self) -> None:
        for answers in self._answers.values():
            answers.put_nowait(self._failure())

    def _failure(self) -> EngineFailed:
        why = self._lost.result() if self._lost.done() else "it was unloaded"
        return EngineFailed(self._spec.name, why, is_model_lost=True)

    def __repr__(self) -> str:
        state = "lost" if self._lost.done() else "closed" if self._is_closed else "ready" if self._is_ready() else "loading"
        return f"<LlamaCppModel {self._spec.name} {state}, pid {self.pid}, {len(self._answers)} running>"


def _check_surrogates(field: str, text: str) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidField(field, "has half of a surrogate pair, which no text may have")


def _start_order(generation_id: int, prompt: str, sampling: Sampling) -> dict[str, Value]:
    return {
        "do": "start",
        "id": generation_id,
        "prompt": prompt,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_penalty": sampling.repeat_penalty,
    }


def _resume_order(replay: Replay, resume: Resume | None) -> dict[str, Value]:
    return {
        "first_index": 0 if resume is None else resume.first_index,
        "ids": list(replay.ids),
        "text": replay.text,
        "exactly_within_s": replay.exactly_within_s,
        "approximate_because": replay.approximate_because,
    }


class LlamaCppEngine:
    """Loads GGUF files from a `FileSource`. `threads` is the default for each model; more than one hurts where cores are shared.

    A model's process that owes an answer and does nothing for `patience_s` is given up.
    """

    def __init__(self, files: FileSource, *, threads: int = 1, patience_s: float = DEFAULT_PATIENCE_S) -> None:
        self._files = files
        self._threads = threads
        self._patience_s = patience_s
        self._models: set[LlamaCppModel] = set()

    def expected_load_s(self, spec: ModelSpec) -> float:
        """See `Engine.expected_load_s`. For a file that is ready."""
        return START_S + spec.size_bytes / LOAD_BYTES_PER_S

    def least_tokens(self, prompt: str) -> int:
        """See `Engine.least_tokens`."""
        return len(prompt) // MOST_CHARACTERS_PER_TOKEN

    async def check(self, spec: ModelSpec) -> None:
        """See `Engine.check`."""
        if importlib.util.find_spec("cyllama") is None:
            raise ModelLoadFailed(spec.name, MISSING)
        await self._files.check(spec)

    async def load(self, spec: ModelSpec) -> LlamaCppModel:
        """See `Engine.load`."""
        await self.check(spec)
        path = await self._files.file_of(spec)
        model = LlamaCppModel(spec, patience_s=self._patience_s)
        sha256 = asyncio.ensure_future(self._files.sha256_of(spec, path))  # while the weights are read, by which it costs next to nothing
        try:
            await model.open(path, sha256, self._threads)
        finally:
            sha256.cancel()
        self._models = {known for known in self._models if known.is_open} | {model}
        return model

    async def close(self) -> None:
        """See `Engine.close`."""
        models, self._models = self._models, set()
        for model in models:
            await model.close()
