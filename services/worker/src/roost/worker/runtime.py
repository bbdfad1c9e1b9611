"""Runs requests: asks the core for a slot and a model, streams their tokens, and leaves everything as it was when they end."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, InvalidField, ModelInUse, ModelLoadFailed, NoCapacity, RoostError
from roost.cluster.worker_state import CacheResult
from roost.worker.checks import Checks
from roost.worker.core.effects import Effect, Grant, Ready, Refuse, Say
from roost.worker.core.jobs import Holder, Job
from roost.worker.core.standing import Standing, waiting
from roost.worker.driver import Driver
from roost.worker.engines import border
from roost.worker.engines.interface import Finished, GeneratedToken, PromptRead, Reading, Sampling
from roost.worker.generation import Accepted, Completed, GenerationEvent, GenerationRequest, NumberedToken, Started
from roost.worker.metrics import WorkerMetrics
from roost.worker.model_host import ModelHost
from roost.worker.progress import Progress


@dataclass(frozen=True, slots=True)
class LoadResult:
    """A model is ready: what was found, and how long it took (0.0: it was ready)."""

    cache_result: CacheResult
    elapsed_s: float


class Runtime:
    """One worker's work. State: the futures of those who wait for the core's word; everything else is the core's."""

    def __init__(self, driver: Driver, host: ModelHost, checks: Checks, metrics: WorkerMetrics, *, clock: Callable[[], float]) -> None:
        self.core = driver.core
        self.host = host
        self._driver = driver
        self._checks = checks
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[Holder, asyncio.Future[None]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._idle = asyncio.Event()
        self._changed = asyncio.Event()
        driver.tap(self._carry_out)
        driver.tap(metrics.watch)
        checks.tap(self._cannot_load)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """`listener` is called after every change of what a report tells."""
        self._listeners.append(listener)

    # --- requests ---------------------------------------------------------------------------------

    @contextmanager
    def refusals(self, model: str, decision_id: str) -> Iterator[None]:
        """What is refused inside never reaches the core: it is counted, and its decider, if it has one, takes the decision back."""
        try:
            yield
        except RoostError:
            self.core.turn_away(decision_id)
            self._count_refusal(model)
            raise

    async def generate(self, request: GenerationRequest, progress: Progress | None = None) -> AsyncGenerator[GenerationEvent, None]:
        """Accepted, Started where that says more, then tokens, then Completed. Closing it at any point frees the slot within one token.

        `progress` is kept up to date, for whoever wants to know meanwhile (`standing`).
        Before anything is yielded it raises UnknownModel, InvalidField, ModelTooLarge, NoCapacity, WorkerDraining; later ModelLoadFailed,
        NoCapacity (pins took the memory, or the engine is busy), InvalidField (what only the engine can check) and EngineFailed.
        """
        with self.refusals(request.model, request.decision_id):
            await self._look(self.core.catalogue.get(request.model), request.prompt)
        job, sampling, position = self._admit(request)
        progress = progress or Progress()
        progress.accepted(job, request.generated.first_index)
        progress.approximate_because = request.generated.approximate_because
        result = "failed"
        try:
            accepted = self._accepted(request, job, sampling, position)
            yield accepted
            await self._waiting[job]
            progress.granted(self._clock(), job.lease.residency.ready_at)
            model = self.host.model(job)
            async with aclosing(border.generate(model, job.model, request.prompt, sampling, request.resume)) as events:
                async for event in events:
                    if isinstance(event, GeneratedToken):
                        yield self._count_token(job, progress, event.id, event.text)
                    elif (told := self._hear(event, progress, accepted, model.fingerprint)) is not None:
                        yield told
            completed = self._complete(request, job, progress)
            result = "ok"
        except EngineFailed as error:
            self.core.failures.call_lost(job.model, error)
            if error.is_model_lost:
                self.host.lose(job.lease.residency, error.why)
            raise
        except (InvalidField, NoCapacity):  # what only the engine can tell: the context's length, a server that is busy
            result = "refused"
            raise
        except (asyncio.CancelledError, GeneratorExit):
            result = "cancelled"
            raise
        finally:
            self._leave(job, is_ok=result == "ok")
            self._metrics.request_ended(job.model, result, self._clock() - job.accepted_at)
        yield completed  # the slot is free: a caller that takes its time with the last word holds nothing

    def standing(self, progress: Progress) -> Standing | None:
        """Where a generation stands; None before it is accepted."""
        if progress.job is None:
            return None
        now = self._clock()
        return progress.running(now) or waiting(self.core, progress.job, now)

    async def load(self, name: str, *, is_pinned: bool = False) -> LoadResult:
        """Makes a model ready. Raises UnknownModel, ModelTooLarge, NoCapacity, ModelLoadFailed, WorkerDraining."""
        started = self._clock()
        await self._look(self.core.catalogue.get(name))
        preload = self.core.preload(name, started, is_pinned=is_pinned)
        ready = self._wait(preload)
        try:
            await ready
        finally:
            self._leave(preload)
        is_hit = preload.cache_result is CacheResult.HIT
        return LoadResult(preload.cache_result, 0.0 if is_hit else self._clock() - started)

    async def unload(self, name: str, *, when_free: bool = False) -> bool:
        """Puts a model out; False if it was not resident. `when_free` waits until nothing uses it. Raises UnknownModel, else ModelInUse."""
        while True:
            self._changed.clear()
            try:
                closing = self.core.unload(name, self._clock())
            except ModelInUse:
                if not when_free:
                    raise
            else:
                break
            await self._changed.wait()
        self._driver.carry_out()
        if closing is None:
            return False
        await self.host.wait_gone(closing)
        return True

    def call_off(self, name: str) -> None:
        """Whoever had a model loaded wants it no more: its load stops, unless somebody else waits for it."""
        self.core.call_off(name, self._clock())
        self._driver.carry_out()

    def unpin(self, name: str) -> bool:
        """Lets a pinned model be evicted again; False if it was not pinned. Raises UnknownModel."""
        was_pinned = self.core.unpin(name, self._clock())
        self._driver.carry_out()
        return was_pinned

    def forget_failures(self) -> None:
        """Deciders may ask for what has failed here again: somebody changed something."""
        self.core.failures.forget()
        self._driver.carry_out()

    def drain(self, *, resume: bool, grace_s: float | None = None) -> int:
        """Stops or starts taking requests; returns how many are unfinished. What has not ended after `grace_s` is handed over."""
        unfinished = self.core.drain(resume=resume, until=math.inf if grace_s is None else self._clock() + grace_s)
        self._driver.carry_out()
        return unfinished

    async def wait_idle(self) -> None:
        """Returns when nothing runs or waits."""
        while self.core.slots.unfinished:
            self._idle.clear()
            await self._idle.wait()

    # --- coming and going ---------------------------------------------------------------------------

    async def _look(self, spec: ModelSpec, prompt: str = "") -> None:
        """Before a place is taken, a load begun or a model put out: raises InvalidField or ModelLoadFailed for what has no hope."""
        self._checks.check_prompt(spec, prompt)
        if self.core.cache.find(spec.name) is CacheResult.COLD_START and not self.core.is_draining:
            await self._checks.look(spec)

    def _cannot_load(self, error: ModelLoadFailed) -> None:
        self.core.failures.load_failed(error.name, error)
        self._driver.carry_out()

    def _admit(self, request: GenerationRequest) -> tuple[Job, Sampling, int]:
        """Takes the model and a place in the queue at once, so that a load starts before a slot is free."""
        with self.refusals(request.model, request.decision_id):
            sampling = request.sampling_for(self.core.catalogue.get(request.model))
        if sampling.seed is None and sampling.temperature > 0:
            sampling = replace(sampling, seed=secrets.randbits(32))
        now = self._clock()
        position = self.core.position(request, now, waited_s=request.waited_s)
        try:
            job = self.core.arrive(request, now, waited_s=request.waited_s)
        except RoostError:
            self._count_refusal(request.model)
            raise
        self._metrics.looked_up(job.model, job.cache_result)
        self._wait(job)
        return job, sampling, position

    def _accepted(self, request: GenerationRequest, job: Job, sampling: Sampling, position: int) -> Accepted:
        return Accepted(
            request.request_id or secrets.token_hex(8),
            self.core.node_id,
            job.cache_result,
            position,
            seed=sampling.seed,
            fingerprint=self.host.fingerprint(job),
            resumed_from=request.generated.first_index,
        )

    def _wait(self, holder: Holder) -> asyncio.Future[None]:
        """Done when the core grants, has loaded or refuses, which may be at once."""
        word = self._waiting[holder] = asyncio.get_running_loop().create_future()
        self._driver.carry_out()
        return word

    def _leave(self, holder: Holder, *, is_ok: bool = False) -> None:
        word = self._waiting.pop(holder)
        if word.done() and not word.cancelled():
            word.exception()  # a refusal that nobody was left to hear is not an error
        self.core.leave(holder, self._clock(), is_ok=is_ok)
        self._driver.carry_out()

    def _count_refusal(self, model: str) -> None:
        self._metrics.refused(model if model in self.core.catalogue else "other")
        self._driver.carry_out()

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Grant(holder) | Ready(holder):
                _resolve(self._waiting[holder])
            case Refuse(holder, error):
                word = self._waiting[holder]
                if not word.done():  # each who hears it raises it, with a traceback of its own
                    word.set_exception(ModelLoadFailed(error.name, error.why) if isinstance(error, ModelLoadFailed) else error)
            case Say():
                self._changed.set()
                if not self.core.slots.unfinished:
                    self._idle.set()
                for listener in self._listeners:
                    listener()

    # --- tokens ---------------------------------------------------------------------------------------

    def _hear(
        self, event: Reading | PromptRead | Finished, progress: Progress, accepted: Accepted, fingerprint: str
    ) -> GenerationEvent | None:
        """What the caller is told of it."""
        match event:
            case Reading(read, of):
                progress.reading(read, of)
            case PromptRead(prompt_tokens, because):
                progress.prompt_read(prompt_tokens, because)
                if accepted.resumed_from and progress.job is not None:
                    self._metrics.resumed(progress.job.model, is_exact=not because)
                if accepted.resumed_from or accepted.fingerprint != fingerprint:
                    return Started(fingerprint, progress.approximate_because)
            case Finished(reason, prompt_tokens, completion_tokens):
                progress.finished(reason, prompt_tokens, completion_tokens)
        return None

    def _count_token(self, job: Job, progress: Progress, token_id: int, text: str) -> NumberedToken:
        index = progress.token(self._clock())
        if index == 0:
            self._metrics.first_token(job.model, job.cache_result, progress.first_token_s)
        self._metrics.generated(job.model)
        return NumberedToken(index, token_id, text)

    def _complete(self, request: GenerationRequest, job: Job, progress: Progress) -> Completed:
        if progress.reason is None:
            raise EngineFailed(job.model, "it ended without saying why")
        times = progress.times(self._clock())
        self._metrics.generated(job.model, max(0, progress.completion_tokens - progress.tokens))  # several came as one
        return Completed(
            progress.reason,
            progress.prompt_tokens,
            progress.completion_tokens,
            times,
            job.cache_result,
            resumes=request.generated.resumes + (request.resume is not None),
            approximate_because=progress.approximate_because,
        )


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
