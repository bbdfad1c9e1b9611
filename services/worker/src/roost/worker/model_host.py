"""Carries out what the model cache decides: one task a residency, from the start of its load until its memory is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, ModelLoadFailed, RoostError
from roost.service.logs import get_logger
from roost.worker.core.model_cache import Acquired, ModelCache
from roost.worker.core.residency import Close, Effect, Lease, Refuse, Residency, StartLoad
from roost.worker.core.timings import LearnedTimes
from roost.worker.engines import border
from roost.worker.engines.interface import Engine, LoadedModel
from roost.worker.metrics import WorkerMetrics
from roost.worker.tasks import task_scope

CLOSE_TIMEOUT_S = 30.0  # a child process is killed in milliseconds; a server elsewhere may take its time

T = TypeVar("T")
log = get_logger()


@dataclass(slots=True)
class _Stay:
    """What the shell keeps of one residency: `end` asks its task to close, `gone` tells that its memory is free."""

    spec: ModelSpec
    end: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    model: LoadedModel | None = None


class ModelHost:
    """Owns the loaded models. Listeners hear of every change of residency and of every lease that is refused."""

    def __init__(
        self,
        cache: ModelCache,
        engines: Mapping[str, Engine],
        times: LearnedTimes,
        metrics: WorkerMetrics,
        *,
        clock: Callable[[], float],
        load_timeout_s: float,
    ) -> None:
        self.cache = cache
        self.times = times
        self.loads = 0
        self.evictions = 0
        self._engines = engines
        self._metrics = metrics
        self._clock = clock
        self._load_timeout_s = load_timeout_s
        self._specs: dict[str, ModelSpec] = {}
        self._stays: dict[int, _Stay] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._on_change: Callable[[], None] = lambda: None
        self._on_refusal: Callable[[Lease, RoostError], None] = lambda _lease, _error: None

    def listen(self, on_change: Callable[[], None], on_refusal: Callable[[Lease, RoostError], None]) -> None:
        """Who is told. Called once, before `running`."""
        self._on_change = on_change
        self._on_refusal = on_refusal

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Models can be loaded inside; all are closed at the end."""
        async with task_scope() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                for stay in self._stays.values():
                    stay.end.set()

    # --- holders ----------------------------------------------------------------------------------

    def acquire(self, spec: ModelSpec) -> Acquired:
        """A lease on the model; its load starts at once if it is absent and there is room. Raises ModelTooLarge, NoCapacity."""
        self._specs[spec.name] = spec
        acquired = self.cache.acquire(spec.name, spec.size_bytes, self._clock())
        self._carry_out(acquired.effects)
        return acquired

    def release(self, lease: Lease) -> None:
        self._carry_out(self.cache.release(lease, self._clock()))

    def pin(self, lease: Lease) -> None:
        self._carry_out(self.cache.pin(lease, self._clock()))

    def model(self, lease: Lease) -> LoadedModel:
        """The weights behind a ready lease. Raises EngineFailed if they were lost this very moment."""
        stay = self._stays.get(lease.residency.key)
        if stay is None or stay.model is None:
            raise EngineFailed(lease.residency.name, "the model was lost", is_model_lost=True)
        return stay.model

    def expected_load_s(self, spec: ModelSpec) -> float:
        """Seconds a load is expected to take: measured, else what its engine says, 0.0 where nothing is loaded."""
        engine = self._engines.get(spec.engine)
        return self.times.expected_load_s(spec.name, 0.0 if engine is None else engine.expected_load_s(spec))

    def lose(self, lease: Lease, why: str) -> None:
        """The weights are gone: the model is dropped, and loaded again when it is next asked for."""
        self._lose(lease.residency, why)

    async def unload(self, name: str) -> bool:
        """Puts an idle model out and returns when its memory is free. False: it was not resident. Raises ModelInUse."""
        unloaded = self.cache.unload(name, self._clock())
        self._carry_out(unloaded.effects)
        if unloaded.residency is None:
            return False
        await self._stays[unloaded.residency.key].gone.wait()
        return True

    # --- effects ----------------------------------------------------------------------------------

    def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case StartLoad(residency):
                    self._start(residency)
                case Close(residency, is_eviction):
                    self._stays[residency.key].end.set()
                    self._count_eviction(residency, is_eviction=is_eviction)
                case Refuse(leases, error):
                    for lease in leases:
                        self._on_refusal(lease, error)
        self._on_change()

    def _start(self, residency: Residency) -> None:
        if self._tasks is None:
            failed = ModelLoadFailed(residency.name, "the worker is stopping")
            self._carry_out(self.cache.load_failed(residency, failed, self._clock()))
            return
        stay = self._stays[residency.key] = _Stay(self._specs[residency.name])
        self._tasks.create_task(self._house(residency, stay), name=f"model {residency.name}")

    def _count_eviction(self, residency: Residency, *, is_eviction: bool) -> None:
        if is_eviction:
            self.evictions += 1
            self._metrics.evicted(residency.name)
            log.info("model_evicted", model=residency.name, size_bytes=residency.size_bytes)

    async def _house(self, residency: Residency, stay: _Stay) -> None:
        """Load, keep until it must close or is lost, close, give the memory back."""
        try:
            stay.model = await _until(stay.end, self._load(residency, stay.spec))
        except ModelLoadFailed as error:
            self._metrics.load_ended(residency.name, is_ok=False, seconds=0.0)
            log.warning("model_load_failed", model=residency.name, why=error.why)
            self._leave(residency, stay)
            self._carry_out(self.cache.load_failed(residency, error, self._clock()))
            return
        if stay.model is not None:
            self._carry_out(self.cache.loaded(residency, stay.model.max_parallel, self._clock()))
            await self._keep(residency, stay.model, stay.end)
        self._leave(residency, stay)
        self._carry_out(self.cache.closed(residency, self._clock()))

    async def _load(self, residency: Residency, spec: ModelSpec) -> LoadedModel:
        started = self._clock()
        engine = self._engines.get(spec.engine)
        if engine is None:
            raise ModelLoadFailed(spec.name, f"this worker has no engine named {spec.engine}")
        try:
            async with asyncio.timeout(self._load_timeout_s):
                model = await border.load(engine, spec)
        except TimeoutError:
            raise ModelLoadFailed(spec.name, f"it took longer than {self._load_timeout_s:g} s") from None
        elapsed_s = self._clock() - started
        self.loads += 1
        self.times.loaded(residency.name, elapsed_s)
        self._metrics.load_ended(residency.name, is_ok=True, seconds=elapsed_s)
        log.info("model_loaded", model=residency.name, elapsed_s=round(elapsed_s, 3), size_bytes=residency.size_bytes)
        return model

    async def _keep(self, residency: Residency, model: LoadedModel, end: asyncio.Event) -> None:
        why = await _until(end, border.wait_lost(model, residency.name))
        if why is not None:
            self._lose(residency, why)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await border.close(model, residency.name)
        except TimeoutError:
            log.warning("model_close_stuck", model=residency.name, timeout_s=CLOSE_TIMEOUT_S)

    def _lose(self, residency: Residency, why: str) -> None:
        """Whoever notices first says so: the request that failed, or the watch over the model."""
        effects = self.cache.lost(residency, self._clock())
        if effects:
            log.warning("model_lost", model=residency.name, why=why)
        self._carry_out(effects)

    def _leave(self, residency: Residency, stay: _Stay) -> None:
        del self._stays[residency.key]
        stay.gone.set()


async def _until(event: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """The result of `work`, or None if the event came first; then `work` was cancelled and has ended."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    return None if task.cancelled() else task.result()
