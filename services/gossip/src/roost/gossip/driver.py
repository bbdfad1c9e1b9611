"""Drives a node with real sockets and a real clock: reads everything that waits, then lets timers run, then sends.

State: the node, the one timer handle of the loop, and the exchanges under way. Invariants: a timer of the node never runs before the
datagrams that were waiting when it became due have been read (a process that stood still must not accuse those who answered it); after
each step everything the node wants to send, ask and tell has been taken from it, and the loop's timer stands at its next deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Final

from roost.gossip.exchanges import Exchanges
from roost.gossip.protocol.config import Address
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.events import Event, LeaveCompleted, StreamRequest
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.node import Node
from roost.gossip.sockets import Sockets

MAX_DRAINED: Final = 1_024  # datagrams read before timers run: a second of what a node may be sent; the loop calls again for the rest
READ_BYTES: Final = 2_048  # longer than any datagram allowed, so that an oversized one is seen to be
LEAVE_S: Final = 3.0  # a goodbye takes 1 s

Heard = Callable[[Event, float], None]


class Driver:
    """Made by `driving`. Must be used from the loop that it runs on."""

    def __init__(self, node: Node[bytes], sockets: Sockets, tasks: asyncio.TaskGroup, *, clock: Callable[[], float], heard: Heard) -> None:
        self.node = node
        self.counters = Counters()
        self._sockets = sockets
        self._tasks = tasks
        self._clock = clock
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._left = asyncio.Event()
        bounds = node.config.bounds
        self._exchanges = Exchanges(node.config.address, sockets.family, max_bytes=bounds.stream_bytes, counters=self.counters)

    @property
    def now(self) -> float:
        return self._clock()

    def join(self, seeds: Sequence[Address]) -> None:
        """Asks `seeds` until one of them answers."""
        self.node.join(seeds, self._clock())
        self._run_timers_and_flush()

    def publish_load(self, load: Load) -> None:
        """Our worker's load, and with it whatever keys were published before."""
        self.node.publish_load(load, self._clock())
        self._run_timers_and_flush()

    def publish_keys(self, changes: Mapping[str, bytes | None]) -> None:
        """Sets and deletes our cold keys; they leave with the next thing that is said. Raises ColdLimit."""
        self.node.publish_keys(changes, self._clock())

    async def leave(self) -> None:
        """Says goodbye, and returns when it has been said."""
        self.node.leave(self._clock())
        self._run_timers_and_flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._left.wait()

    # --- in -----------------------------------------------------------------------------------------

    def start(self) -> None:
        self._loop.add_reader(self._sockets.udp, self._wake)
        self._spawn(self._fail(), "failure of the node")
        self._wake()

    def stop(self) -> None:
        self._stop_listening()
        for task in self._running:
            task.cancel()

    def _stop_listening(self) -> None:
        self._loop.remove_reader(self._sockets.udp)
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        """The socket is readable, or a deadline of the node has come: in both cases the socket goes first."""
        try:
            self._drain()
            self._run_timers_and_flush()
        except Exception as bug:  # noqa: BLE001 - a callback of the loop has nobody to raise to; the task that waits for this has
            self._stop_listening()
            if not self._failure.done():
                self._failure.set_exception(bug)

    async def _fail(self) -> None:
        """Ends the process by its TaskGroup if a callback met a bug."""
        await self._failure

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _drain(self) -> None:
        receive, node, now = self._sockets.udp.recvfrom, self.node, self._clock()
        for _ in range(MAX_DRAINED):
            try:
                data, address = receive(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self.counters.count("receive_failed")
                return
            self.counters.count("bytes_in", len(data))
            node.receive_datagram(data, (address[0], address[1]), now)

    # --- out ----------------------------------------------------------------------------------------

    def _run_timers_and_flush(self) -> None:
        node, now = self.node, self._clock()
        due = node.next_timer()
        if due is not None and due <= now:
            node.handle_timer(now)
        while (event := node.next_event()) is not None:
            if isinstance(event, LeaveCompleted):
                self._left.set()
            self._heard(event, now)
        for datagram in node.datagrams_to_send(now):
            self._send(datagram.data, datagram.address)
        for request in node.stream_requests(now):
            self._spawn(self._ask(request), f"exchange {request.request}")
        self._set_timer(node.next_timer(), now)

    def _send(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            self._sockets.udp.sendto(data, address)
        except BlockingIOError:
            self.counters.count("send_blocked")
        except OSError:
            self.counters.count("send_failed")

    def _set_timer(self, due: float | None, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_later(max(0.0, due - now), self._wake)

    # --- streams ------------------------------------------------------------------------------------

    async def _ask(self, request: StreamRequest[bytes]) -> None:
        reply = await self._exchanges.ask(request)
        if reply is None:
            self.node.stream_failed(request.request)
        else:
            self.node.receive_stream_reply(request.request, reply, self._clock())
        self._run_timers_and_flush()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Another member has connected."""
        self._spawn(self._exchanges.serve(reader, writer, self._answer), "served exchange")

    def _answer(self, data: bytes) -> bytes | None:
        reply = self.node.receive_stream(data, self._clock())
        self._run_timers_and_flush()
        return reply

    def __repr__(self) -> str:
        return f"<Driver of {self.node!r}>"


@contextlib.asynccontextmanager
async def driving(node: Node[bytes], sockets: Sockets, *, clock: Callable[[], float], heard: Heard) -> AsyncIterator[Driver]:
    """The node lives on these sockets for as long as the block lasts. `heard` is called with each event, after the node took it in."""
    async with asyncio.TaskGroup() as tasks:
        driver = Driver(node, sockets, tasks, clock=clock, heard=heard)
        server = await asyncio.start_server(driver.serve, sock=sockets.tcp)
        driver.start()
        try:
            yield driver
        finally:
            server.close()
            driver.stop()
