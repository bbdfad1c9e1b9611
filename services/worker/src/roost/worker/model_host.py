"""Carries out what the core decides of models: one task a residency, from the start of its load until its memory is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import EngineFailed, ModelLoadFailed
from roost.service.logs import get_logger
from roost.worker.core.effects import Close, Effect, StartLoad
from roost.worker.core.jobs import Job
from roost.worker.core.residency import Residency
from roost.worker.driver import Driver
from roost.worker.engines import border
from roost.worker.engines.interface import Engine, LoadedModel
from roost.worker.metrics import WorkerMetrics
from roost.worker.tasks import task_scope, until

CLOSE_TIMEOUT_S = 30.0  # a child process is killed in milliseconds; a server elsewhere may take its time

log = get_logger()


@dataclass(slots=True)
class _Stay:
    """What the shell keeps of one residency: `end` asks its task to close, `gone` tells that its memory is free."""

    spec: ModelSpec
    end: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    model: LoadedModel | None = None


class ModelHost:
    """Owns the loaded models, and tells the core what became of its orders."""

    def __init__(
        self,
        driver: Driver,
        engines: Mapping[str, Engine],
        metrics: WorkerMetrics,
        *,
        clock: Callable[[], float],
        load_timeout_s: float,
    ) -> None:
        self._driver = driver
        self._core = driver.core
        self._engines = engines
        self._metrics = metrics
        self._clock = clock
        self._load_timeout_s = load_timeout_s
        self._stays: dict[int, _Stay] = {}
        self._tasks: asyncio.TaskGroup | None = None
        driver.tap(self._carry_out)

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

    def model(self, job: Job) -> LoadedModel:
        """The weights that a granted job runs on. Raises EngineFailed if they were lost this very moment."""
        stay = self._stays.get(job.lease.residency.key)
        if stay is None or stay.model is None:
            raise EngineFailed(job.model, "the model was lost", is_model_lost=True)
        return stay.model

    def fingerprint(self, job: Job) -> str:
        """That of the weights which the job waits for, or runs on; empty while they are not loaded."""
        stay = self._stays.get(job.lease.residency.key)
        return "" if stay is None or stay.model is None else stay.model.fingerprint

    def lose(self, residency: Residency, why: str) -> None:
        """The weights are gone: whoever notices first says so, the request that failed or the watch over the model."""
        if self._core.lost(residency, self._clock()):
            log.warning("model_lost", model=residency.name, why=why)
        self._driver.carry_out()

    async def wait_gone(self, residency: Residency) -> None:
        """Returns when the memory of what closes is free."""
        await self._stays[residency.key].gone.wait()

    # --- effects ----------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case StartLoad(residency):
                self._start(residency)
            case Close(residency, is_eviction):
                self._stays[residency.key].end.set()
                if is_eviction:
                    log.info("model_evicted", model=residency.name, size_bytes=residency.size_bytes)

    def _start(self, residency: Residency) -> None:
        if self._tasks is None:
            self._core.failed(residency, ModelLoadFailed(residency.name, "the worker is stopping"), self._clock())
            return
        stay = self._stays[residency.key] = _Stay(self._core.catalogue.get(residency.name))
        self._tasks.create_task(self._house(residency, stay), name=f"model {residency.name}")

    async def _house(self, residency: Residency, stay: _Stay) -> None:
        """Load, keep until it must close or is lost, close, give the memory back."""
        try:
            stay.model = await until(stay.end, self._load(residency, stay.spec))
        except ModelLoadFailed as error:
            self._metrics.load_ended(residency.name, is_ok=False, seconds=0.0)
            log.warning("model_load_failed", model=residency.name, why=error.why)
            self._leave(residency, stay)
            self._core.failed(residency, error, self._clock())
            self._driver.carry_out()
            return
        if stay.model is not None:
            self._core.loaded(residency, stay.model.max_parallel, self._clock())
            self._driver.carry_out()
            await self._keep(residency, stay.model, stay.end)
        self._leave(residency, stay)
        self._core.closed(residency, self._clock())
        self._driver.carry_out()

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
        self._metrics.load_ended(residency.name, is_ok=True, seconds=elapsed_s)
        log.info("model_loaded", model=residency.name, elapsed_s=round(elapsed_s, 3), size_bytes=residency.size_bytes)
        return model

    async def _keep(self, residency: Residency, model: LoadedModel, end: asyncio.Event) -> None:
        why = await until(end, border.wait_lost(model, residency.name))
        if why is not None:
            self.lose(residency, why)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await border.close(model, residency.name)
        except TimeoutError:
            log.warning("model_close_stuck", model=residency.name, timeout_s=CLOSE_TIMEOUT_S)

    def _leave(self, residency: Residency, stay: _Stay) -> None:
        del self._stays[residency.key]
        stay.gone.set()
