"""Runs requests: admits them, gives them slots and models, streams their tokens, and leaves everything as it was when they end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace

from roost.cluster.catalogue import Catalogue
from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed, NoCapacity, RoostError, WorkerDraining
from roost.cluster.worker_state import CacheResult, CatalogueModel, DecisionOutcome
from roost.worker.core.outcomes import Outcomes
from roost.worker.core.residency import Lease, Stage
from roost.worker.core.slots import Job, Slots
from roost.worker.engines import border
from roost.worker.engines.interface import Finished, GeneratedToken, PromptRead, Sampling
from roost.worker.generation import MAX_DECISION_ID, Accepted, Completed, GenerationEvent, GenerationRequest, NumberedToken
from roost.worker.metrics import WorkerMetrics
from roost.worker.model_host import ModelHost
from roost.worker.progress import Progress


@dataclass(frozen=True, slots=True)
class LoadResult:
    """A model is ready: what was found, and how long it took (0.0: it was ready)."""

    cache_result: CacheResult
    elapsed_s: float


class Runtime:
    """One worker's work. State: the futures of those who wait for a slot or a load; the rest lives in Slots and ModelCache."""

    def __init__(
        self,
        node_id: str,
        catalogue: Catalogue,
        host: ModelHost,
        slots: Slots,
        metrics: WorkerMetrics,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.node_id = node_id
        self.catalogue = catalogue
        self.host = host
        self.slots = slots
        self.times = host.times
        self.outcomes = Outcomes()
        self._listening = [self.outcomes]
        self.is_draining = False
        self._metrics = metrics
        self._clock = clock
        self._grants: dict[Lease, asyncio.Future[None]] = {}
        self._loads: dict[Lease, asyncio.Future[None]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._idle = asyncio.Event()
        host.listen(self._changed, self._refused)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """`listener` is called after every change of residency, queue, slots or draining."""
        self._listeners.append(listener)

    def further_outcomes(self) -> Outcomes:
        """What a second peer is told of arrivals, which it hears of at its own pace."""
        further = Outcomes()
        self._listening.append(further)
        return further

    def expected_load_s(self, name: str) -> float:
        """Seconds a load of `name` is expected to take. Raises UnknownModel."""
        return self.host.expected_load_s(self.catalogue.get(name))

    def catalogue_models(self) -> tuple[CatalogueModel, ...]:
        """Every entry as deciders need it, with the time its load is expected to take here, ordered by name."""
        return tuple(replace(spec.to_catalogue_model(), load_time_s=self.host.expected_load_s(spec)) for spec in self.catalogue)

    # --- requests ---------------------------------------------------------------------------------

    @contextmanager
    def refusals(self, model: str, decision_id: str) -> Iterator[None]:
        """A request that is refused inside is counted, and its decider, if it has one, is told to take the decision back."""
        try:
            yield
        except RoostError:
            self._metrics.refused(model if model in self.catalogue else "other")
            self._tell(decision_id, CacheResult.REFUSED)
            self._changed()
            raise

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Accepted, then tokens, then Completed. Closing it at any point frees the slot within one token.

        Before anything is yielded it raises UnknownModel, InvalidField, ModelTooLarge, NoCapacity, WorkerDraining; later ModelLoadFailed,
        NoCapacity (pins took the memory, or the engine is busy), InvalidField (what only the engine can check) and EngineFailed.
        """
        job, sampling, position = self._admit(request)
        progress = Progress(job.accepted_at)
        result = "failed"
        try:
            yield Accepted(request.request_id or secrets.token_hex(8), self.node_id, job.cache_result, position)
            await self._grants[job.lease]
            progress.granted(self._clock(), job.lease.residency.ready_at)
            self._metrics.granted(job.priority, progress.queue_wait_s)
            model = self.host.model(job.lease)
            async with aclosing(border.generate(model, job.model, request.prompt, sampling)) as events:
                async for event in events:
                    match event:
                        case GeneratedToken(id=token_id, text=text):
                            yield self._count_token(job, progress, token_id, text)
                        case PromptRead(prompt_tokens):
                            progress.prompt_tokens = prompt_tokens
                        case Finished(reason, prompt_tokens, completion_tokens):
                            progress.finished(reason, prompt_tokens, completion_tokens)
            completed = self._complete(job, progress)
            result = "ok"
        except EngineFailed as error:
            if error.is_model_lost:
                self.host.lose(job.lease, error.why)
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

    async def load(self, name: str, *, is_pinned: bool = False) -> LoadResult:
        """Makes a model ready. Raises UnknownModel, ModelTooLarge, NoCapacity, ModelLoadFailed, WorkerDraining."""
        self._check_serving()
        started = self._clock()
        acquired = self.host.acquire(self.catalogue.get(name))
        ready = self._loads[acquired.lease] = asyncio.get_running_loop().create_future()
        try:
            self._changed()
            await ready
            if is_pinned:
                self.host.pin(acquired.lease)
        finally:
            del self._loads[acquired.lease]
            self.host.release(acquired.lease)
        is_hit = acquired.result is CacheResult.HIT
        return LoadResult(acquired.result, 0.0 if is_hit else self._clock() - started)

    async def unload(self, name: str) -> bool:
        """Puts a model out; False if it was not resident. Raises UnknownModel, ModelInUse."""
        self.catalogue.get(name)
        return await self.host.unload(name)

    def drain(self, *, resume: bool) -> int:
        """Stops or starts taking requests; returns how many are unfinished."""
        self.is_draining = not resume
        self._changed()
        return self.slots.unfinished

    async def wait_idle(self) -> None:
        """Returns when nothing runs or waits."""
        while self.slots.unfinished:
            self._idle.clear()
            await self._idle.wait()

    # --- coming and going ---------------------------------------------------------------------------

    def _check_serving(self) -> None:
        if self.is_draining:
            raise WorkerDraining(self.node_id)

    def _admit(self, request: GenerationRequest) -> tuple[Job, Sampling, int]:
        """Takes the model and a place in the queue at once, so that a load starts before a slot is free."""
        with self.refusals(request.model, request.decision_id):
            spec = self.catalogue.get(request.model)
            sampling = request.sampling_for(spec)
            self._check_serving()
            self.slots.check_room(self._next_place_s())
            now = self._clock()
            position = self.slots.position(request.priority, now, request.waited_s)
            acquired = self.host.acquire(spec)
        is_late = request.waited_for_load and acquired.result is CacheResult.HIT  # it is ready because the request waited for it elsewhere
        job = Job(request.model, request.priority, now, CacheResult.JOIN if is_late else acquired.result, acquired.lease)
        self._grants[job.lease] = asyncio.get_running_loop().create_future()
        self.slots.admit(job, now, request.waited_s)
        self._metrics.looked_up(job.model, job.cache_result)
        self.outcomes.looked_up(job.cache_result)
        self._tell(request.decision_id, job.cache_result)
        self._changed()
        return job, sampling, position

    def _tell(self, decision_id: str, found: CacheResult) -> None:
        """Deciders hear, with the next report, what became of the decision. An id that no report may carry is no decider's."""
        if 0 < len(decision_id) <= MAX_DECISION_ID:
            for outcomes in self._listening:
                outcomes.arrived(DecisionOutcome(decision_id, found))

    def _leave(self, job: Job, *, is_ok: bool) -> None:
        """Frees the slot or the place in the queue, and the model. What did not complete says nothing of how long requests take."""
        grant = self._grants.pop(job.lease)
        if grant.done() and not grant.cancelled():
            grant.exception()  # a refusal that nobody was left to hear is not an error
        if is_ok and job.granted_at is not None:
            self.times.served(job.model, self._clock() - job.granted_at)
        self.slots.leave(job)
        self.host.release(job.lease)

    def _next_place_s(self) -> float:
        """When a place in the queue is expected to be free: when a slot is, or else the first load."""
        if self.slots.busy:
            return self.times.mean_service_s() / self.slots.busy
        now = self._clock()
        loads = [
            residency.load_started_at + self.expected_load_s(residency.name) - now
            for residency in self.host.cache.resident
            if residency.stage is Stage.LOADING
        ]
        return min(loads, default=self.times.mean_service_s())

    def _changed(self) -> None:
        now = self._clock()
        while (job := self.slots.next(now)) is not None:
            self.host.cache.start(job.lease)
            _resolve(self._grants[job.lease])
        for lease, ready in self._loads.items():
            if lease.residency.stage is Stage.READY:
                _resolve(ready)
        if not self.slots.unfinished:
            self._idle.set()
        for listener in self._listeners:
            listener()

    def _refused(self, lease: Lease, error: RoostError) -> None:
        waiter = self._grants.get(lease) or self._loads.get(lease)
        if waiter is not None and not waiter.done():
            waiter.set_exception(ModelLoadFailed(error.name, error.why) if isinstance(error, ModelLoadFailed) else error)

    # --- tokens ---------------------------------------------------------------------------------------

    def _count_token(self, job: Job, progress: Progress, token_id: int, text: str) -> NumberedToken:
        index = progress.token(self._clock())
        if index == 0:
            self._metrics.first_token(job.model, job.cache_result, progress.first_token_s)
        self._metrics.generated(job.model)
        return NumberedToken(index, token_id, text)

    def _complete(self, job: Job, progress: Progress) -> Completed:
        if progress.reason is None:
            raise EngineFailed(job.model, "it ended without saying why")
        times = progress.times(self._clock())
        self._metrics.generated(job.model, max(0, progress.completion_tokens - progress.tokens))  # several came as one
        return Completed(progress.reason, progress.prompt_tokens, progress.completion_tokens, times, job.cache_result)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
