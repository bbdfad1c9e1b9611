"""One call to the cluster: the targets in order, the last good one first, each with its share of the time."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import grpc

from roost.client.channels import CannotConnect, ChannelCache, connect
from roost.client.errors import CallTimedOut, ClusterUnreachable, Failure
from roost.client.targets import Target, TargetOrder
from roost.cluster.errors import ServerStopping
from roost.flow.terms import REACH_TIMEOUT_S
from roost.service.errors import DETAILS_KEY, from_rpc_error

DIAGNOSIS_S = 1.0  # a failure is not to be explained for longer than that
MAX_WHY = 200  # characters of a transport's own words that are worth showing

Request = TypeVar("Request")
Response = TypeVar("Response")
Unary = Callable[[grpc.aio.Channel], grpc.aio.UnaryUnaryMultiCallable[Request, Response]]
Stream = Callable[[grpc.aio.Channel], grpc.aio.UnaryStreamMultiCallable[Request, Response]]

_TRANSPORT_CODES = frozenset({
    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DEADLINE_EXCEEDED,
})  # fmt: skip


def has_details(error: grpc.aio.AioRpcError) -> bool:
    """Whether the status carries `google.rpc` details: then a Roost server said no, and not the way to it."""
    return any(key == DETAILS_KEY for key, _ in error.trailing_metadata() or ())


def is_transport_failure(error: grpc.aio.AioRpcError) -> bool:
    """Whether nobody answered: not reached, or the connection broke, or the time ran out."""
    return error.code() in _TRANSPORT_CODES and not has_details(error)


def why(error: grpc.aio.AioRpcError) -> str:
    """The transport's own words, short: the last of several chained causes."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "did not answer in time"
    return (error.details() or error.code().name).rpartition("last error: ")[2][:MAX_WHY]


async def why_not_connected(target: Target, failed: CannotConnect) -> str:
    """The system's own words for why nothing can be connected there: gRPC's are long and come late."""
    try:
        async with asyncio.timeout(DIAGNOSIS_S):
            _, writer = await asyncio.open_connection(target.host, target.port)
    except TimeoutError:
        return "no answer to a connection attempt"
    except socket.gaierror:
        return "the host name is not known"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    writer.close()
    if failed.is_timeout:  # such as a stopped process: the system takes connections for it
        return "it accepts connections but does not answer"
    return (
        "something listens there that does not speak gRPC as we do "
        "(another service, TLS on one side only, or a certificate that is not trusted)"
    )


class NotAnswered(Exception):
    """One target was not reached, did not answer in time, or is stopping; another one may answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class ClusterCaller:
    """Calls whichever target answers. Owns no state of its own: `targets` remembers the good one, `channels` the connections."""

    def __init__(self, targets: TargetOrder, channels: ChannelCache) -> None:
        self._targets = targets
        self._channels = channels

    async def call(self, rpc: Unary[Request, Response], request: Request, *, timeout_s: float, is_repeatable: bool = True) -> Response:
        """The first answer. Raises what the server refused with, ClusterUnreachable, or CallTimedOut.

        `is_repeatable` is False for what takes long and should not be started again elsewhere: such a call is not repeated when
        its time is up, and the whole time belongs to the first target that can be reached.
        """
        failures: list[Failure] = []
        deadline = asyncio.get_running_loop().time() + timeout_s
        for position, target in enumerate(self._targets):
            left_s = max(0.001, deadline - asyncio.get_running_loop().time())
            share_s = left_s / (len(self._targets) - position) if is_repeatable else left_s
            try:
                return await self.ask(target, rpc, request, reach_s=share_s, timeout_s=share_s, is_repeatable=is_repeatable)
            except NotAnswered as error:
                failures.append(error.failure)
        raise ClusterUnreachable(failures)

    async def ask(
        self,
        target: Target,
        rpc: Unary[Request, Response],
        request: Request,
        *,
        reach_s: float,
        timeout_s: float,
        is_repeatable: bool = True,
    ) -> Response:
        """The answer of that target, which has `reach_s` to be connected. Raises what it refused with, NotAnswered, CallTimedOut."""
        try:
            async with self._connected(target, reach_s) as channel:
                answer = await rpc(channel)(request, timeout=timeout_s)
        except CannotConnect as error:
            raise NotAnswered(Failure(str(target), await why_not_connected(target, error))) from error
        except grpc.aio.AioRpcError as error:
            raise NotAnswered(self._failure(target, error, timeout_s=timeout_s, is_repeatable=is_repeatable)) from error
        self._targets.prefer(target)
        return answer

    async def stream(self, rpc: Stream[Request, Response], request: Request, *, timeout_s: float) -> AsyncGenerator[Response, None]:
        """Answers of the first target that gives one, for at most `timeout_s`; ends then. Raises as `call` does."""
        failures: list[Failure] = []
        for target in self._targets:
            is_answering = False
            try:
                async with aclosing(self._answers_of(target, rpc, request, timeout_s)) as answers:
                    async for answer in answers:
                        is_answering = True
                        yield answer
            except CannotConnect as error:
                failures.append(Failure(str(target), await why_not_connected(target, error)))
            except grpc.aio.AioRpcError as error:
                if is_answering and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return
                failures.append(self._failure(target, error, timeout_s=timeout_s, is_repeatable=True))
                if is_answering:
                    break
            else:
                return
        raise ClusterUnreachable(failures)

    async def _answers_of(
        self, target: Target, rpc: Stream[Request, Response], request: Request, timeout_s: float
    ) -> AsyncGenerator[Response, None]:
        async with self._connected(target, REACH_TIMEOUT_S) as channel:
            call = rpc(channel)(request, timeout=timeout_s)
            try:
                async for answer in call:
                    self._targets.prefer(target)
                    yield answer
            finally:
                call.cancel()

    @asynccontextmanager
    async def _connected(self, target: Target, timeout_s: float) -> AsyncIterator[grpc.aio.Channel]:
        address = str(target)
        async with self._channels.lease(address) as channel:
            try:
                await connect(channel, min(REACH_TIMEOUT_S, timeout_s))
                yield channel
            except CannotConnect:
                self._channels.forget(address)
                raise
            except grpc.aio.AioRpcError as error:
                if is_transport_failure(error):
                    self._channels.forget(address)
                else:
                    self._targets.prefer(target)  # a refusal is an answer
                raise

    def _failure(self, target: Target, error: grpc.aio.AioRpcError, *, timeout_s: float, is_repeatable: bool) -> Failure:
        """What is noted before the next target is tried. Raises where no other target should be."""
        if not is_transport_failure(error):
            refusal = from_rpc_error(error)
            if isinstance(refusal, ServerStopping):
                return Failure(str(target), str(refusal))
            raise refusal from error
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not is_repeatable:
            raise CallTimedOut(f"the call to {target}", timeout_s) from error
        return Failure(str(target), why(error))
