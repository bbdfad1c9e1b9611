"""One generation: schedule, call the worker, and on refusal or loss before the first token schedule again without that worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

import grpc

from roost.client.attempts import Attempts, Setback
from roost.client.caller import CONNECT_TIMEOUT_S, has_details, is_transport_failure, why
from roost.client.channels import CannotConnect, ChannelCache, connect
from roost.client.codec import accepted_from_wire, completed_from_wire, token_from_wire
from roost.client.errors import CallTimedOut, Failure, GenerationInterrupted, NoWorkerTookIt
from roost.client.results import Accepted, Completed, Decision, Event, Scheduled, Token
from roost.cluster.errors import EngineFailed, NoCapacity, NoWorkers
from roost.service.errors import from_rpc_error, retry_after_s
from roost.v1 import worker_pb2
from roost.v1.worker_pb2_grpc import WorkerStub

ACCEPT_TIMEOUT_S = 5.0  # a worker accepts or refuses a request as it arrives: one that says nothing for so long does not live
MAX_WAITED_S = 86_400.0  # the bound of the contract
END_TIMEOUT_S = 1.0  # after its completion a worker has this long to end the call; nothing more is expected of it

WorkerEvent = Accepted | Token | Completed
GenerateCall = grpc.aio.UnaryStreamCall[worker_pb2.GenerateRequest, worker_pb2.GenerateResponse]
Schedule = Callable[[frozenset[str]], Awaitable[Decision]]


class WorkerFailed(Exception):  # never leaves this module
    """One worker did not do it and another may. `server_wish_s` is when it wants to be asked again, 0.0 if it did not say."""

    def __init__(self, setback: Setback, why: str, server_wish_s: float = 0.0) -> None:
        super().__init__(why)
        self.setback = setback
        self.server_wish_s = server_wish_s


def setback_of(error: grpc.aio.AioRpcError) -> WorkerFailed | None:
    """What a worker's status means for the request; None: no other worker would do better, the caller is told."""
    typed = from_rpc_error(error)
    wish_s = retry_after_s(typed)
    if is_transport_failure(error):
        return WorkerFailed(Setback.LOST, why(error))
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        is_message_too_large = not has_details(error) and "larger than max" in (error.details() or "")
        return None if is_message_too_large else WorkerFailed(Setback.BUSY, str(typed), wish_s)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return WorkerFailed(Setback.REFUSED, str(typed), wish_s)
    return WorkerFailed(Setback.LOST, str(typed)) if isinstance(typed, EngineFailed) else None


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time a whole generation has, every attempt and wait included. `at` is in the event loop's clock."""

    at: float
    timeout_s: float

    @property
    def left_s(self) -> float:
        return max(0.001, self.at - asyncio.get_running_loop().time())

    @property
    def is_over(self) -> bool:
        return asyncio.get_running_loop().time() >= self.at

    @property
    def waited_s(self) -> float:
        """Since the generation was asked for, within what the wire takes."""
        return min(MAX_WAITED_S, max(0.0, asyncio.get_running_loop().time() - (self.at - self.timeout_s)))


class WorkerCall:
    """Generate on one worker: its numbered events, each once, or the reason why not.

    State: the tokens so far. Invariant: their indexes count from 0 without gaps.
    """

    def __init__(self, channels: ChannelCache, decision: Decision, deadline: Deadline) -> None:
        self._channels = channels
        self._decision = decision
        self._deadline = deadline
        self._tokens: list[Token] = []

    async def events(self, request: worker_pb2.GenerateRequest) -> AsyncGenerator[WorkerEvent, None]:
        """Ends after Completed. Raises WorkerFailed, GenerationInterrupted, CallTimedOut or what the worker refused with."""
        address = self._decision.worker_address
        if not address:
            raise WorkerFailed(Setback.LOST, "it gave no address to call")
        async with self._channels.lease(address) as channel:
            try:
                await connect(channel, min(CONNECT_TIMEOUT_S, self._deadline.left_s))
                async with aclosing(self._responses(channel, request)) as events:
                    async for event in events:
                        yield event
            except CannotConnect as error:
                self._channels.forget(address)
                raise WorkerFailed(Setback.LOST, f"{address} {error}") from error
            except grpc.aio.AioRpcError as error:
                if is_transport_failure(error) and not self._deadline.is_over:
                    self._channels.forget(address)
                raise self._meaning(error) from error

    async def _responses(self, channel: grpc.aio.Channel, request: worker_pb2.GenerateRequest) -> AsyncGenerator[WorkerEvent, None]:
        call = WorkerStub(channel).Generate(request, timeout=self._deadline.left_s)
        try:
            async for response in self._answers(call):
                event = self._event(response)
                if isinstance(event, Completed):
                    await _end(call)
                    yield event
                    return
                if event is not None:
                    yield event
            raise self._lost("it ended the call without a completion")
        finally:
            call.cancel()

    async def _answers(self, call: GenerateCall) -> AsyncGenerator[worker_pb2.GenerateResponse, None]:
        """What the worker sends, the first of it within ACCEPT_TIMEOUT_S: nothing else shows soon that a connected worker is frozen."""
        answers = aiter(call)
        try:
            async with asyncio.timeout(ACCEPT_TIMEOUT_S):
                first = await anext(answers, None)
        except TimeoutError:
            self._channels.forget(self._decision.worker_address)
            raise self._lost(f"it took the call and did not answer within {ACCEPT_TIMEOUT_S:g} s") from None
        if first is None:
            return
        yield first
        async for answer in answers:
            yield answer

    def _event(self, response: worker_pb2.GenerateResponse) -> WorkerEvent | None:
        match response.WhichOneof("event"):
            case "accepted":
                return accepted_from_wire(response.accepted)
            case "token":
                token = token_from_wire(response.token)
                if token.index != len(self._tokens):
                    raise self._lost(f"it sent token {token.index} where {len(self._tokens)} was due")
                self._tokens.append(token)
                return token
            case "completion":
                return completed_from_wire(response.completion)
        return None  # a step that a newer worker may have

    def _meaning(self, error: grpc.aio.AioRpcError) -> Exception:
        if self._tokens:
            return GenerationInterrupted(self._decision.worker_id, why(error), self._tokens)
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not has_details(error):
            return CallTimedOut("the generation", self._deadline.timeout_s)
        return setback_of(error) or from_rpc_error(error)

    def _lost(self, what: str) -> Exception:
        if self._tokens:
            return GenerationInterrupted(self._decision.worker_id, what, self._tokens)
        return WorkerFailed(Setback.LOST, what)


async def _end(call: GenerateCall) -> None:
    """Lets the worker end the call itself, so that it does not take a finished one for a cancelled one."""
    with suppress(TimeoutError, grpc.aio.AioRpcError):
        async with asyncio.timeout(END_TIMEOUT_S):
            await call.code()


class GenerationRun:
    """The attempts of one generation. Owns nothing but the list of what went wrong so far."""

    def __init__(self, schedule: Schedule, channels: ChannelCache, attempts: Attempts, deadline: Deadline) -> None:
        self._schedule = schedule
        self._channels = channels
        self._attempts = attempts
        self._deadline = deadline
        self._failures: list[Failure] = []

    async def events(self, request: worker_pb2.GenerateRequest) -> AsyncGenerator[Event, None]:
        """Scheduled (once an attempt), Accepted, Tokens, Completed. Raises as `RoostClient.generate` says."""
        number = 0
        while True:
            decision = await self._decide()
            number += 1
            yield Scheduled(decision, number, str(self._failures[-1]) if self._failures else "")
            request.request_id, request.decision_id = decision.request_id, decision.decision_id
            request.waited_s, request.waited_for_load = self._deadline.waited_s, decision.waited_for_load
            try:
                async with aclosing(WorkerCall(self._channels, decision, self._deadline).events(request)) as events:
                    async for event in events:
                        yield event
            except WorkerFailed as failure:
                self._failures.append(Failure(decision.worker_id, str(failure)))
                wait_s = self._attempts.worker_failed(decision.worker_id, failure.setback, server_wish_s=failure.server_wish_s)
                await self._wait(wait_s, failure)
            else:
                return

    async def _decide(self) -> Decision:
        while True:
            try:
                async with asyncio.timeout(self._deadline.left_s):
                    return await self._schedule(frozenset(self._attempts.excluded))
            except TimeoutError as error:
                raise CallTimedOut("the generation", self._deadline.timeout_s) from error
            except (NoWorkers, NoCapacity) as refusal:
                await self._wait(self._attempts.scheduler_refused(server_wish_s=refusal.retry_after_s), refusal)

    async def _wait(self, wait_s: float | None, cause: Exception) -> None:
        """Sleeps before the next attempt; raises the end of the whole generation where there is none, or no time for it."""
        if wait_s is not None and wait_s < self._deadline.left_s:
            await asyncio.sleep(wait_s)
            return
        if not self._failures:
            raise cause
        last = f"gave up after {self._attempts.made} attempts" if wait_s is None else "there was no time for another attempt"
        raise NoWorkerTookIt(self._failures, last) from cause
