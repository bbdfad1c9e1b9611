"""What every streaming call needs: tasks that live as long as the call, its quiet end, and its polite end when the process stops.

Streams are served as coroutines that are given the requests and a `write`, because several tasks of a call answer on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError
from grpc import aio

from roost.cluster.errors import InvalidField, ServerStopping

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Write(Protocol[T_contra]):
    """Sends one answer and returns when the transport has taken it: this is the flow control. Raises PeerGone."""

    def __call__(self, answer: T_contra, /) -> Awaitable[None]: ...


class PeerGone(Exception):
    """The other end of the stream is not there any more: nobody's mistake, and nobody to tell."""


class Answering(Protocol[T_contra]):
    """The part of a call's context that answers on it."""

    async def send_initial_metadata(self, initial_metadata: tuple[()], /) -> None: ...
    async def write(self, message: T_contra, /) -> None: ...


async def open_writer(call: Answering[T]) -> Write[T]:
    """The call's own `write`, one answer at a time (gRPC allows no two at once), with its broken-call error named PeerGone.

    The metadata goes ahead of the first answer: if a cancelled `write` had taken it along, grpc.aio would send it twice and fail.
    """
    await call.send_initial_metadata(())
    turn = asyncio.Lock()

    async def write_in_turn(answer: T) -> None:
        await turn.acquire()  # `async with` would cost every answer two more coroutines
        try:
            await call.write(answer)
        except aio.InternalError as error:
            raise PeerGone from error
        finally:
            turn.release()

    return write_in_turn


@contextlib.asynccontextmanager
async def stream_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup for one call; PeerGone ends the call quietly. Refusals leave in a group, which the error interceptor knows."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except* PeerGone:
        pass


@contextlib.contextmanager
def refusing_garbage() -> Iterator[None]:
    """Around the reading of a stream: bytes that are no message are their sender's mistake, not a bug of ours."""
    try:
        yield
    except DecodeError as error:
        raise garbage() from error


def garbage() -> InvalidField:
    """The refusal of bytes that are no message."""
    return InvalidField("message", "cannot be read: its bytes are no message of this call")


class StopSignal:
    """Set once, when the process begins to stop; long calls end by it with a refusal that says so."""

    def __init__(self, name: str) -> None:
        """`name` says who is stopping, such as "the coordinator"."""
        self._name = name
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    async def refuse_when_set(self) -> None:
        """Waits for `set`, then raises ServerStopping."""
        await self._event.wait()
        raise ServerStopping(self._name)
