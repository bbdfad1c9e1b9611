"""The worker's one stream to the coordinator: reports and command results up, commands down, for as long as either lives.

The worker serves whether or not the stream stands; only the choice of who is asked depends on it.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import grpc
from roost.cluster.errors import InvalidField, NoCapacity, RoostError
from roost.cluster.names import check_model_name
from roost.service.channels import open_channel
from roost.service.codec import state_to_wire
from roost.service.errors import to_refusal
from roost.service.logs import get_logger
from roost.service.tls import TlsFiles
from roost.v1 import coordinator_pb2, coordinator_pb2_grpc
from roost.worker.metrics import WorkerMetrics
from roost.worker.pace import Backoff, ReportPace
from roost.worker.report import Reporter
from roost.worker.runtime import Runtime
from roost.worker.tasks import task_scope

WELCOME_TIMEOUT_S = 5.0  # a coordinator that takes longer for its first word is as good as away
WRITE_TIMEOUT_S = 5.0  # a stream that does not take a report for so long is broken
GOODBYE_TIMEOUT_S = 1.0  # for the coordinator to take the last report and end its side
MAX_COMMANDS = 64  # run at once; an operator's wishes, never load

Call = grpc.aio.StreamStreamCall[coordinator_pb2.ConnectRequest, coordinator_pb2.ConnectResponse]
log = get_logger()


class _Ending(enum.Enum):
    """Why a session ended without an error status."""

    BY_US = "we said goodbye"
    BY_PEER = "the coordinator ended the stream"
    BROKEN = "the stream took no report in time"


@dataclass(slots=True)
class _Session:
    """One stream. Writes take turns: gRPC allows one at a time."""

    call: Call
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    commands: set[asyncio.Task[None]] = field(default_factory=set)

    async def write(self, message: coordinator_pb2.ConnectRequest) -> None:
        async with self.turn, asyncio.timeout(WRITE_TIMEOUT_S):
            await self.call.write(message)


@dataclass(frozen=True, slots=True)
class Peer:
    """Where the coordinator is, HOST:PORT, and how it is spoken to."""

    target: str
    tls: TlsFiles | None = None

    def dial(self) -> grpc.aio.Channel:
        """A channel of its own for each attempt, so that no attempt waits for the pauses of an earlier one."""
        return open_channel(self.target, tls=self.tls)


@dataclass(frozen=True, slots=True)
class LinkTiming:
    """When things are due; `clock` is monotonic, in seconds."""

    pace: ReportPace
    backoff: Backoff
    clock: Callable[[], float]


class CoordinatorLink:
    """State: whether the coordinator takes our reports now, and what was last said in the log about it."""

    def __init__(self, peer: Peer, runtime: Runtime, reporter: Reporter, metrics: WorkerMetrics, *, timing: LinkTiming) -> None:
        self.is_connected = False
        self._peer = peer
        self._runtime = runtime
        self._reporter = reporter
        self._metrics = metrics
        self._pace = timing.pace
        self._backoff = timing.backoff
        self._clock = timing.clock
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._said = ""
        runtime.subscribe(self._notice)
        metrics.connected(is_connected=False)

    async def run(self) -> None:
        """Connects, reports and obeys until `close`; every loss is followed by another attempt."""
        while not self._closing.is_set():
            why = await self._attempt()
            if self._closing.is_set():
                return
            self._say(why)
            try:
                async with asyncio.timeout(self._backoff.next_wait_s()):
                    await self._closing.wait()
            except TimeoutError:
                continue

    def close(self) -> None:
        """Says goodbye with a last report and lets `run` return."""
        self._closing.set()
        self._wake.set()

    def _notice(self) -> None:
        if self._pace.changed():
            self._wake.set()

    # --- one stream -------------------------------------------------------------------------------

    async def _attempt(self) -> str:
        """One session, from dialling to its end; returns why it ended."""
        try:
            async with self._peer.dial() as channel:
                return await _told(self._converse(_Session(coordinator_pb2_grpc.CoordinatorStub(channel).Connect())))
        finally:
            self._set_connected(is_connected=False)
            self._runtime.outcomes.stream_lost(self._clock())

    async def _converse(self, session: _Session) -> str:
        """A full report, the welcome, then reports and commands until either side has had enough."""
        try:
            await self._report(session, has_catalogue=True)
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                first = await session.call.read()
            if not isinstance(first, coordinator_pb2.ConnectResponse):
                return _Ending.BY_PEER.value
            self._backoff.succeeded()
            self._set_connected(is_connected=True)
            return await self._report_and_obey(session, first)
        finally:
            session.call.cancel()

    async def _report_and_obey(self, session: _Session, first: coordinator_pb2.ConnectResponse) -> str:
        async with task_scope() as tasks:
            self._obey(session, tasks, first)
            reporting = tasks.create_task(_told(self._keep_reporting(session)), name="coordinator reports")
            obeying = tasks.create_task(_told(self._keep_obeying(session, tasks)), name="coordinator commands")
            await asyncio.wait({reporting, obeying}, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.is_set():  # cancelling a stream drops what it has not yet sent
                await asyncio.wait({obeying}, timeout=GOODBYE_TIMEOUT_S)
            ended = [task.result() for task in (reporting, obeying) if task.done() and not task.cancelled()]
            for task in (reporting, obeying, *session.commands):
                task.cancel()
        return ended[0] if ended else _Ending.BROKEN.value

    # --- up -----------------------------------------------------------------------------------------

    async def _keep_reporting(self, session: _Session) -> str:
        while not self._closing.is_set():
            self._wake.clear()
            due_in_s = self._pace.due_in(self._clock())
            if due_in_s > 0:
                try:
                    async with asyncio.timeout(due_in_s):
                        await self._wake.wait()
                except TimeoutError:
                    await self._report(session)
            else:
                await self._report(session)
        await self._report(session)
        await session.call.done_writing()
        return _Ending.BY_US.value

    async def _report(self, session: _Session, *, has_catalogue: bool = False) -> None:
        outcomes = self._runtime.outcomes.unsent()
        report = state_to_wire(self._reporter.next_report(has_catalogue=has_catalogue, outcomes=outcomes))
        now = self._clock()
        self._pace.sent(now)
        self._runtime.outcomes.sent(len(outcomes), now)
        await session.write(coordinator_pb2.ConnectRequest(report=report))

    # --- down ---------------------------------------------------------------------------------------

    async def _keep_obeying(self, session: _Session, tasks: asyncio.TaskGroup) -> str:
        while isinstance(message := await session.call.read(), coordinator_pb2.ConnectResponse):
            self._obey(session, tasks, message)
        return _Ending.BY_PEER.value

    def _obey(self, session: _Session, tasks: asyncio.TaskGroup, message: coordinator_pb2.ConnectResponse) -> None:
        if message.WhichOneof("message") == "command":
            task = tasks.create_task(self._execute(session, message.command), name=f"command {message.command.command_id}")
            session.commands.add(task)
            task.add_done_callback(session.commands.discard)

    async def _execute(self, session: _Session, command: coordinator_pb2.Command) -> None:
        """Carries the command out and answers it, whatever came of it."""
        started = self._clock()
        result = coordinator_pb2.CommandResult(command_id=command.command_id)
        try:
            if len(session.commands) > MAX_COMMANDS:
                raise NoCapacity(f"{MAX_COMMANDS} commands are under way", 1.0)
            await self._carry_out(command)
        except RoostError as error:
            refusal = to_refusal(error)
            result.code, result.message, result.reason = refusal.code, refusal.message, refusal.reason
        result.elapsed_s = self._clock() - started
        log.info("command_done", command=command.WhichOneof("action"), code=result.code, message=result.message)
        await _told(session.write(coordinator_pb2.ConnectRequest(result=result)))

    async def _carry_out(self, command: coordinator_pb2.Command) -> None:
        match command.WhichOneof("action"):
            case "load_model":
                await self._runtime.load(check_model_name(command.load_model.model), is_pinned=command.load_model.pin)
            case "unload_model":
                await self._runtime.unload(check_model_name(command.unload_model.model))
            case "drain":
                self._runtime.drain(resume=command.drain.resume)
            case _:
                raise InvalidField("action", "is none that this version of the worker knows")

    # --- saying -------------------------------------------------------------------------------------

    def _set_connected(self, *, is_connected: bool) -> None:
        if is_connected and not self.is_connected:
            log.info("coordinator_connected", target=self._peer.target)
            self._said = ""
        self.is_connected = is_connected
        self._metrics.connected(is_connected=is_connected)

    def _say(self, why: str) -> None:
        """Once for each new reason, not for each attempt."""
        if why != self._said:
            self._said = why
            log.warning("coordinator_lost", target=self._peer.target, why=why)


async def _told(work: Coroutine[None, None, str | None]) -> str:
    """How it ended, where a broken stream is one way to end."""
    try:
        return await work or ""
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    except (TimeoutError, asyncio.InvalidStateError):  # the latter: written to after the call had ended
        return _Ending.BROKEN.value
