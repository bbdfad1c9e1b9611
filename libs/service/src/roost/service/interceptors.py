"""What happens around every call: errors become statuses, and the call is counted. Handlers know of neither.

A handler is wrapped once, when its method is first called; after that an interceptor costs one dictionary lookup. Streaming answers
are written from inside the wrapper, so that a handler's generator is closed, and frees what it holds, as soon as the call has ended.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeAlias, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from roost.cluster.errors import RoostError
from roost.service.errors import internal_status, status_of, to_rpc_status, to_trailers
from roost.service.logs import Logger
from roost.service.metrics import GrpcMetrics
from roost.service.streams import garbage

Request = TypeVar("Request")
Response = TypeVar("Response")
Context = grpc.aio.ServicerContext[object, object]
Behaviour = Callable[[object, Context], Awaitable[object]]
Generating = Callable[[object, Context], AsyncGenerator[object, None]]
Deserialize = Callable[[bytes], object]
Handler: TypeAlias = "grpc.RpcMethodHandler[Request, Response]"

_MAKERS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
_UNREADABLE: Final = object()  # in place of a request whose bytes are no message
_CODE_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


class WrappingInterceptor(grpc.aio.ServerInterceptor):
    """State: method -> its wrapped handler. Only registered methods get there, so it is as bounded as they are."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Handler[object, object]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler[Request, Response] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler[Request, Response] | None:
        """The wrapped handler; None where there is no such method, which grpc answers with UNIMPLEMENTED."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            found = await continuation(handler_call_details)
            if found is None:
                return None
            wrapped = self._wrapped[method] = self._rewrite(method, cast("Handler[object, object]", found))
        return cast("Handler[Request, Response]", wrapped)

    @abstractmethod
    def around(self, method: str, behaviour: Behaviour) -> Behaviour:
        """`behaviour` with what this interceptor adds; `method` is "/package.Service/Method"."""

    def reading(self, method: str, handler: Handler[object, object]) -> Deserialize | None:  # noqa: ARG002 - for those who need it
        """How the handler's requests are read."""
        return handler.request_deserializer

    def _rewrite(self, method: str, handler: Handler[object, object]) -> Handler[object, object]:
        attribute, make = _MAKERS[bool(handler.request_streaming), bool(handler.response_streaming)]
        behaviour = _as_coroutine(getattr(handler, attribute))
        if behaviour is None:
            return handler
        return make(self.around(method, behaviour), self.reading(method, handler), handler.response_serializer)


def _as_coroutine(behaviour: Behaviour | Generating) -> Behaviour | None:
    """One form for coroutine functions and async generator functions; None for the blocking kind, which grpc runs in threads."""
    if inspect.iscoroutinefunction(behaviour):
        return behaviour
    if not inspect.isasyncgenfunction(behaviour):
        return None
    generate = cast("Generating", behaviour)

    async def write_all(request: object, context: Context) -> None:
        async with aclosing(generate(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)

    return write_all


class ErrorInterceptor(WrappingInterceptor):
    """A RoostError ends the call with its status; any other exception is a bug: logged once with its traceback, INTERNAL to the caller.

    A group that holds nothing but RoostErrors (a handler's TaskGroup ended with them) counts as the first of them. Bytes that are no
    message are their sender's mistake: gRPC itself would log a traceback for each, and answer UNKNOWN.
    """

    def __init__(self, log: Logger) -> None:
        super().__init__()
        self._log = log

    def around(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def guarded(request: object, context: Context) -> object:
            if request is _UNREADABLE:
                await _refuse(context, garbage())
            try:
                return await behaviour(request, context)
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except grpc.aio.InternalError as error:  # the transport takes no more answers: the peer is gone, as in a cancelled call
                raise asyncio.CancelledError from error
            except Exception as error:
                await self._end(method, error, context)
                raise

        return guarded

    def reading(self, method: str, handler: Handler[object, object]) -> Deserialize | None:
        """A stream's messages are read inside its handler, which is where their errors arise; a single one is read before it."""
        read = super().reading(method, handler)
        if read is None or handler.request_streaming:
            return read

        def read_or_mark(data: bytes) -> object:
            try:
                return read(data)
            except DecodeError:
                return _UNREADABLE

        return read_or_mark

    async def _end(self, method: str, error: Exception, context: Context) -> None:
        refusal = _refusal_in(error)
        if refusal is not None:
            await _refuse(context, refusal)
        if context.cancelled():
            self._log.debug("call_failed_after_cancellation", method=method, error=repr(error))
            raise asyncio.CancelledError from error
        error_id = secrets.token_hex(4)
        self._log.error("call_failed", method=method, error_id=error_id, exc_info=error)
        await _abort(context, grpc.StatusCode.INTERNAL, internal_status(error_id))


def _refusal_in(error: BaseException) -> RoostError | None:
    if isinstance(error, RoostError):
        return error
    if isinstance(error, ExceptionGroup):
        refusals = [_refusal_in(inner) for inner in error.exceptions]
        return refusals[0] if all(refusals) else None
    return None


async def _refuse(context: Context, refusal: RoostError) -> None:
    await _abort(context, status_of(refusal), to_rpc_status(refusal))


async def _abort(context: Context, code: grpc.StatusCode, status: status_pb2.Status) -> None:
    await context.abort(code, status.message, to_trailers(status))


class MetricsInterceptor(WrappingInterceptor):
    """Counts each call by its code and takes its time. The outermost: it sees the code that the caller sees."""

    def __init__(self, metrics: GrpcMetrics) -> None:
        super().__init__()
        self._metrics = metrics

    def around(self, method: str, behaviour: Behaviour) -> Behaviour:
        service, _, name = method.removeprefix("/").rpartition("/")
        metrics = self._metrics.method(service, name)

        async def counted(request: object, context: Context) -> object:
            started = time.perf_counter()
            code = "UNKNOWN"  # what grpc makes of an exception that nobody named
            try:
                answer = await behaviour(request, context)
                code = "OK"
            except asyncio.CancelledError:
                code = _why_cancelled(context)
                raise
            except grpc.aio.AbortError as ended:
                _let_go(ended)
                del request
                raise
            finally:
                metrics.ended(_code_set(context) or code, time.perf_counter() - started)
            return answer

        return counted


def _let_go(ended: grpc.aio.AbortError) -> None:
    """The error that ended a call is kept by gRPC beside the call, and its frames keep the call and the request: a circle, which would
    hold megabytes of a refused prompt until the garbage collector comes by.
    """
    ended.__traceback__ = ended.__context__ = ended.__cause__ = None


def _why_cancelled(context: Context) -> str:
    remaining_s = cast("float | None", context.time_remaining())
    return "DEADLINE_EXCEEDED" if remaining_s is not None and remaining_s <= 0 else "CANCELLED"


def _code_set(context: Context) -> str | None:
    """The code that the handler set or ended the call with, None if it did neither."""
    code: object = context.code()  # None or a number, whatever grpc's types say
    if code is None:
        return None
    return code.name if isinstance(code, grpc.StatusCode) else _CODE_NAMES.get(cast("int", code))
