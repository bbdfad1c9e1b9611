"""A worker inside any Python program, used from plain synchronous code.

```python
with WorkerNode("worker-1", "127.0.0.1", 8001, "127.0.0.1", 9000) as node:
    node.load_model("gemma-3-270m")
    print(node.request_schedule("request-1", "gemma-3-270m").worker_id)
```
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import enum
import logging
import sys
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import grpc
import structlog

from roost.cluster.errors import RoostError, WorkerUnreachable
from roost.placement.request import PlacementRequest
from roost.service.channels import open_channel
from roost.service.codec import decision_from_wire, request_to_wire
from roost.service.errors import from_rpc_error
from roost.service.settings import parse_settings
from roost.service.startup import CannotStart
from roost.v1 import scheduler_pb2_grpc
from roost.worker.app import RunningWorker, worker
from roost.worker.runtime import LoadResult
from roost.worker.settings import WorkerSettings

START_TIMEOUT_S = 30.0  # the start opens two ports and asks for a GPU: milliseconds, seconds on a machine under load
STOP_MARGIN_S = 15.0  # on top of the drain timeout: the goodbye, and models that take their time to close
LOAD_MARGIN_S = 5.0  # on top of the load timeout, after which the load itself has failed
SCHEDULE_TIMEOUT_S = 5.0  # a decision takes microseconds; the rest is for a coordinator that is just coming back

T = TypeVar("T")


class Action(enum.StrEnum):
    """What the chosen worker will do; equal to the plain strings."""

    SERVE = "SERVE"
    COLD_START = "COLD_START"
    MIGRATE = "MIGRATE"


@dataclass(frozen=True, slots=True)
class ScheduleResult:
    """Where a request should run; the fields are those of ScheduleResponse. Times are in seconds."""

    request_id: str
    worker_id: str
    action: Action
    estimated_wait_time: float
    reason: str
    worker_address: str
    view_age_s: float
    decision_id: str
    policy: str


class NodeCannotStart(RoostError, CannotStart):
    """A setting, a file or a port keeps the worker from starting; the message is one line that names it, and the fix."""

    reason = "CANNOT_START"


class WorkerNode:
    """A worker with an event loop in a thread of its own. Its methods block and may be called from any thread but that one.

    State: the thread and its loop while it is started, else None. It can be started again after it was stopped; whoever starts or stops
    it while another thread does so waits for that to end first.
    """

    def __init__(
        self,
        node_id: str,
        host: str = "127.0.0.1",
        port: int = 0,
        coordinator_host: str = "127.0.0.1",
        coordinator_port: int = 9000,
        **settings: object,
    ) -> None:
        """`settings` are further fields of WorkerSettings, such as memory="2GiB" or slots=8. Raises NodeCannotStart, naming bad ones."""
        given = {"node_id": node_id, "host": host, "port": port, "coordinator_host": coordinator_host, "coordinator_port": coordinator_port}
        try:
            self.settings = parse_settings(WorkerSettings, {"metrics_port": 0, **given, **settings})
        except CannotStart as error:
            raise NodeCannotStart(str(error)) from error
        self.node_id = self.settings.name
        self._life: _Life | None = None
        self._turn = threading.RLock()  # one that its own thread may take again: a signal's handler may stop what is just starting

    @property
    def port(self) -> int:
        """The port that was taken. Raises WorkerUnreachable if the worker is not started."""
        return self._living().running.port

    @property
    def address(self) -> str:
        """HOST:PORT by which clients reach it. Raises WorkerUnreachable if the worker is not started."""
        return self._living().running.address

    def start(self) -> Self:
        """Returns when the worker listens; the coordinator may come later. Starting twice does nothing. Raises NodeCannotStart."""
        with self._turn:
            if self._life is None:
                _quiet_unless_configured()
                self._life = _Life.begin(self.settings)
        return self

    def stop(self) -> None:
        """Finishes what was accepted, says goodbye and frees everything. Stopping twice does nothing."""
        with self._turn:
            life, self._life = self._life, None
            if life is not None:
                life.end(self.settings.drain_timeout_s + STOP_MARGIN_S)

    def load_model(self, name: str, *, pin: bool = False) -> LoadResult:
        """Returns when the model is ready. Raises UnknownModel, ModelTooLarge, NoCapacity, ModelLoadFailed."""
        life = self._living()
        return life.call(life.running.runtime.load(name, is_pinned=pin), self.settings.load_timeout_s + LOAD_MARGIN_S)

    def unload_model(self, name: str) -> bool:
        """Returns when its memory is free; False if it was not resident. Raises UnknownModel, ModelInUse."""
        life = self._living()
        return life.call(life.running.runtime.unload(name), self.settings.load_timeout_s + LOAD_MARGIN_S)

    def request_schedule(
        self, request_id: str, model_required: str, priority: int = 0, *, timeout_s: float = SCHEDULE_TIMEOUT_S
    ) -> ScheduleResult:
        """Asks the coordinator where a request should run. Raises InvalidField, UnknownModel, NoWorkers, RemoteError, WorkerUnreachable."""
        request = PlacementRequest(request_id=request_id, model=model_required, priority=priority)
        return self._living().call(self._schedule(request, timeout_s), timeout_s + LOAD_MARGIN_S)

    async def _schedule(self, request: PlacementRequest, timeout_s: float) -> ScheduleResult:
        async with open_channel(self.settings.coordinator, tls=self.settings.coordinator_tls) as channel:
            try:
                answer = await scheduler_pb2_grpc.SchedulerStub(channel).Schedule(request_to_wire(request), timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
        decision = decision_from_wire(answer)
        return ScheduleResult(
            request_id=decision.request_id,
            worker_id=decision.worker_id,
            action=Action[decision.action.name],
            estimated_wait_time=decision.estimated_wait_s,
            reason=decision.reason,
            worker_address=decision.worker_address,
            view_age_s=decision.view_age_s,
            decision_id=decision.decision_id,
            policy=decision.policy,
        )

    def _living(self) -> _Life:
        if self._life is None:
            raise WorkerUnreachable(self.node_id, "it is not started; call start() first")
        return self._life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<WorkerNode {self.node_id} {'stopped' if self._life is None else self._life.running.address}>"


class _Life:
    """One start: the thread, its loop, and the worker that runs there."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._started: concurrent.futures.Future[RunningWorker] = concurrent.futures.Future()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        # A daemon: a program that forgets to stop its worker still ends.
        self._thread = threading.Thread(target=self._run, name=f"worker {settings.name}", daemon=True)

    @classmethod
    def begin(cls, settings: WorkerSettings) -> _Life:
        """Returns when the worker listens. Raises what kept it from doing so."""
        life = cls(settings)
        life._thread.start()
        try:
            life._started.result(START_TIMEOUT_S)
        except CannotStart as error:
            raise NodeCannotStart(str(error)) from error
        except TimeoutError:
            life.end(0.0)
            raise NodeCannotStart(f"the worker did not listen within {START_TIMEOUT_S:g} s") from None
        return life

    @property
    def running(self) -> RunningWorker:
        return self._started.result(0)

    def call(self, work: Coroutine[None, None, T], timeout_s: float) -> T:
        """The result of `work`, run in the worker's loop. Raises WorkerUnreachable if there is none in time, or the worker has ended."""
        name = self._settings.name
        if not self._thread.is_alive():
            work.close()
            raise WorkerUnreachable(name, "it has ended; its log says why")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise WorkerUnreachable(name, f"no answer within {timeout_s:g} s") from None
        except concurrent.futures.CancelledError:
            raise WorkerUnreachable(name, "it was stopped meanwhile") from None

    def end(self, timeout_s: float) -> None:
        """Asks the worker to stop and waits for it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._main())
            except BaseException as error:
                if self._started.done():
                    raise  # threading.excepthook reports it
                self._started.set_exception(error)

    async def _main(self) -> None:
        async with worker(self._settings) as running:
            self._started.set_result(running)
            await self._stop.wait()


def _quiet_unless_configured() -> None:
    """Unconfigured, structlog prints every event to stdout, which belongs to the program that we are a guest of."""
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
        )
