"""The worker's one stream to a coordinator or to its sidecar: reports up, whatever the peer asks down, for as long as either lives.

The worker serves whether or not the stream stands; only the choice of who is asked depends on it.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import grpc

from roost.cluster.errors import WorkerSuperseded
from roost.service.channels import open_channel
from roost.service.errors import from_rpc_error
from roost.service.logs import get_logger
from roost.service.report_changes import changes_to_wire
from roost.service.tls import TlsFiles, explained
from roost.v1 import state_pb2
from roost.worker.core.outcomes import Outcomes
from roost.worker.core.pace import Backoff, ReportPace
from roost.worker.metrics import WorkerMetrics
from roost.worker.report import Reporter
from roost.worker.runtime import Runtime
from roost.worker.tasks import task_scope

WELCOME_TIMEOUT_S = 5.0  # a peer that takes longer for its first word is as good as away
WRITE_TIMEOUT_S = 5.0  # a stream that does not take a report for so long is broken
GOODBYE_TIMEOUT_S = 1.0  # for the peer to take the last report and end its side

Up = TypeVar("Up")
Down = TypeVar("Down")
log = get_logger()


class Line(Protocol[Up, Down]):
    """One kind of peer: how a stream to it is opened, and what is said on it. `name` is its word in logs and metrics."""

    @property
    def name(self) -> str: ...

    @property
    def down(self) -> type[Down]: ...

    def open(self, channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[Up, Down]: ...

    def report(self, report: state_pb2.WorkerLoadReport) -> Up: ...

    def takes_changes(self, welcome: Down) -> bool:
        """Whether the peer's first word says that reports may tell what has changed only."""
        ...

    async def obey(self, message: Down) -> Up | None:
        """Do what the peer asks, and the answer to it, if there is one."""
        ...


class _Ending(enum.Enum):
    """Why a session ended without an error status."""

    BY_US = "we said goodbye"
    BY_PEER = "the peer ended the stream"
    BROKEN = "the stream took no report in time"
    RENEWED = "this worker goes by a later epoch now"


@dataclass(slots=True)
class _Session(Generic[Up, Down]):
    """One stream. Writes take turns: gRPC allows one at a time.

    `last` is the number of the last report on it, which the next one may follow if the peer `takes_changes`.
    """

    call: grpc.aio.StreamStreamCall[Up, Down]
    epoch: int
    last: int = 0
    takes_changes: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    commands: set[asyncio.Task[None]] = field(default_factory=set)

    async def write(self, message: Up) -> None:
        async with self.turn, asyncio.timeout(WRITE_TIMEOUT_S):
            await self.call.write(message)


@dataclass(frozen=True, slots=True)
class Peer:
    """Where the coordinator or the sidecar is, HOST:PORT, and how it is spoken to."""

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


@dataclass(frozen=True, slots=True)
class Source:
    """Where reports come from: what they say, when they change, and which outcomes this peer has still to hear."""

    runtime: Runtime
    reporter: Reporter
    outcomes: Outcomes


class ReportLink(Generic[Up, Down]):
    """State: whether the peer takes our reports now, what was last said in the log about it, and which life it preferred to ours."""

    def __init__(self, line: Line[Up, Down], peer: Peer, source: Source, metrics: WorkerMetrics, *, timing: LinkTiming) -> None:
        self.is_connected = False
        self._line = line
        self._connected_event, self._lost_event = f"{line.name}_connected", f"{line.name}_lost"
        self._peer = peer
        self._reporter = source.reporter
        self._outcomes = source.outcomes
        self._metrics = metrics
        self._pace = timing.pace
        self._backoff = timing.backoff
        self._clock = timing.clock
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._said = ""
        self._is_catalogue_new = False
        self._told_epoch = 0
        source.runtime.subscribe(self._notice)
        metrics.connected(line.name, is_connected=False)

    async def run(self) -> None:
        """Connects, reports and obeys until `close`; every loss is followed by another attempt."""
        while not self._closing.is_set():
            why = await self._attempt()
            if self._closing.is_set():
                return
            self._say(why)
            if self._outbids():
                continue
            try:
                async with asyncio.timeout(self._backoff.next_wait_s()):
                    await self._closing.wait()
            except TimeoutError:
                continue

    def close(self) -> None:
        """Says goodbye with a last report and lets `run` return."""
        self._closing.set()
        self._wake.set()

    def tell_catalogue(self) -> None:
        """The next report, which is due now, says what can be loaded."""
        self._is_catalogue_new = True
        self._notice()

    def _outbids(self) -> bool:
        """The peer prefers a life of ours that is over: then it takes us at once under a later epoch."""
        told_epoch, self._told_epoch = self._told_epoch, 0
        has_outbid = self._reporter.outbid(told_epoch)
        if has_outbid:
            log.warning(
                "epoch_raised",
                epoch=self._reporter.epoch,
                why=f"the {self._line.name} knows a life of this worker that began later by this machine's clock than it is now",
            )
        return has_outbid

    def _notice(self) -> None:
        if self._pace.changed():
            self._wake.set()

    # --- one stream -------------------------------------------------------------------------------

    async def _attempt(self) -> str:
        """One session, from dialling to its end; returns why it ended."""
        try:
            async with self._peer.dial() as channel:
                return await self._told(self._converse(_Session(self._line.open(channel), self._reporter.epoch)))
        finally:
            self._set_connected(is_connected=False)
            self._outcomes.stream_lost(self._clock())

    async def _converse(self, session: _Session[Up, Down]) -> str:
        """A full report, the welcome, then reports and commands until either side has had enough."""
        try:
            await self._report(session, has_catalogue=True)
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                first = await session.call.read()
            if not isinstance(first, self._line.down):
                return _Ending.BY_PEER.value
            self._backoff.succeeded()
            self._set_connected(is_connected=True)
            session.takes_changes = self._line.takes_changes(first)
            return await self._report_and_obey(session, first)
        finally:
            session.call.cancel()

    async def _report_and_obey(self, session: _Session[Up, Down], first: Down) -> str:
        async with task_scope() as tasks:
            self._obey(session, tasks, first)
            reporting = tasks.create_task(self._told(self._keep_reporting(session)), name=f"{self._line.name} reports")
            obeying = tasks.create_task(self._told(self._keep_obeying(session, tasks)), name=f"{self._line.name} commands")
            await asyncio.wait({reporting, obeying}, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.is_set():  # cancelling a stream drops what it has not yet sent
                await asyncio.wait({obeying}, timeout=GOODBYE_TIMEOUT_S)
            ended = [task.result() for task in (reporting, obeying) if task.done() and not task.cancelled()]
            for task in (reporting, obeying, *session.commands):
                task.cancel()
        return ended[0] if ended else _Ending.BROKEN.value

    # --- up -----------------------------------------------------------------------------------------

    async def _keep_reporting(self, session: _Session[Up, Down]) -> str:
        while not self._closing.is_set():
            self._wake.clear()
            if self._reporter.epoch != session.epoch:  # raised for the other peer: a stream keeps its life
                return _Ending.RENEWED.value
            due_in_s = self._pace.due_in(self._clock())
            if due_in_s > 0:
                try:
                    async with asyncio.timeout(due_in_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue
            else:
                await self._report(session)
        await self._report(session)
        await session.call.done_writing()
        return _Ending.BY_US.value

    async def _report(self, session: _Session[Up, Down], *, has_catalogue: bool = False) -> None:
        outcomes = self._outcomes.unsent()
        has_catalogue, self._is_catalogue_new = has_catalogue or self._is_catalogue_new, False
        follows = session.last if session.takes_changes else 0
        state = self._reporter.next_report(has_catalogue=has_catalogue, outcomes=outcomes, follows=follows)
        report = changes_to_wire(state)
        session.last = state.sequence
        now = self._clock()
        self._pace.sent(now)
        self._outcomes.sent(len(outcomes), now)
        await session.write(self._line.report(report))

    # --- down ---------------------------------------------------------------------------------------

    async def _keep_obeying(self, session: _Session[Up, Down], tasks: asyncio.TaskGroup) -> str:
        while isinstance(message := await session.call.read(), self._line.down):
            self._obey(session, tasks, message)
        return _Ending.BY_PEER.value

    def _obey(self, session: _Session[Up, Down], tasks: asyncio.TaskGroup, message: Down) -> None:
        task = tasks.create_task(self._answer(session, message), name=f"what the {self._line.name} asks")
        session.commands.add(task)
        task.add_done_callback(session.commands.discard)

    async def _answer(self, session: _Session[Up, Down], message: Down) -> None:
        answer = await self._line.obey(message)
        if answer is not None:
            await self._told(session.write(answer))

    async def _told(self, work: Coroutine[None, None, str | None]) -> str:
        """How it ended, where a broken stream is one way to end."""
        try:
            return await work or ""
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            if isinstance(refusal, WorkerSuperseded):
                self._told_epoch = refusal.current_epoch
            return f"{error.code().name}: {error.details()}"
        except (TimeoutError, asyncio.InvalidStateError):  # the latter: written to after the call had ended
            return _Ending.BROKEN.value

    # --- saying -------------------------------------------------------------------------------------

    def _set_connected(self, *, is_connected: bool) -> None:
        if is_connected and not self.is_connected:
            log.info(self._connected_event, target=self._peer.target)
            self._said = ""
        self.is_connected = is_connected
        self._metrics.connected(self._line.name, is_connected=is_connected)

    def _say(self, why: str) -> None:
        """Once for each new reason, not for each attempt."""
        if why != self._said:
            self._said = why
            log.warning(self._lost_event, target=self._peer.target, why=explained(why, has_tls=self._peer.tls is not None))
