"""How many large requests are received at once. gRPC reads a request as soon as its call has begun, however many calls have."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import grpc

from roost.service.interceptors import Behaviour, Deserialize, Handler, Request, Response, WrappingInterceptor

AT_ONCE: Final = 8  # 128 MiB where each is as large as a message may be, unpacked; a small one takes less than a millisecond
LONGEST_S: Final = 2.0  # of one that does not come, or comes slowly; after it the next is received as well


class ReceptionGate:
    """State: the receptions in progress, by the timers that end them, and who waits to begin one, first come first."""

    def __init__(self, at_once: int = AT_ONCE, longest_s: float = LONGEST_S) -> None:
        self._at_once = at_once
        self._longest_s = longest_s
        self._open: deque[asyncio.TimerHandle] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Returns when a reception may begin."""
        if len(self._open) >= self._at_once or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave()  # its turn had come
                raise
        else:
            self._begin()

    def leave(self) -> None:
        """A request has arrived; which one does not matter, for they are only counted."""
        if self._open:
            self._open.popleft().cancel()
        self._let_in()

    def _begin(self) -> None:
        self._open.append(asyncio.get_running_loop().call_later(self._longest_s, self._expire))

    def _expire(self) -> None:
        """The oldest: timers all take equally long."""
        self._open.popleft()
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and len(self._open) < self._at_once:
            turn = self._waiting.popleft()
            if not turn.done():
                self._begin()
                turn.set_result(None)

    def __repr__(self) -> str:
        return f"<ReceptionGate {len(self._open)}/{self._at_once} being received, {len(self._waiting)} waiting>"


class ReceptionInterceptor(WrappingInterceptor):
    """Lets requests of `methods` ("/package.Service/Method", one request a call) in through the gate."""

    def __init__(self, gate: ReceptionGate, methods: Collection[str]) -> None:
        super().__init__()
        self._gate = gate
        self._methods = frozenset(methods)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler[Request, Response] | None:
        """The handler, once its request may be received."""
        handler = await super().intercept_service(continuation, handler_call_details)
        if handler is not None and handler_call_details.method in self._methods:
            await self._gate.enter()
        return handler

    def around(self, method: str, behaviour: Behaviour) -> Behaviour:  # noqa: ARG002 - the signature is the interceptors'
        """What is received is none of the gate's business any more."""
        return behaviour

    def reading(self, method: str, handler: Handler[object, object]) -> Deserialize | None:
        """As before, and the gate hears that a request has arrived."""
        read = super().reading(method, handler)
        if read is None or method not in self._methods:
            return read

        def read_and_leave(data: bytes) -> object:
            self._gate.leave()
            return read(data)

        return read_and_leave
