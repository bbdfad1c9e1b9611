"""Drives `roost.flow`: asks the deciders it names, calls the workers they choose, and tells it what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress

import grpc

from roost.client.caller import NotAnswered, has_details, is_transport_failure, why
from roost.client.channels import CannotConnect, ChannelCache, connect
from roost.client.codec import accepted_from_wire, completed_from_wire, progress_from_wire, started_from_wire, token_from_wire, told_to_wire
from roost.client.results import Accepted, Completed, Decision, Event, Progress, Scheduled, Token
from roost.client.targets import Target
from roost.cluster.errors import RoostError
from roost.flow.effects import Ask, Call, Effect, Emit, Fail, GoOn, Pause
from roost.flow.flow import Flow
from roost.flow.heard import Decided, Declined, Heard, Lost, Refused, Unreachable
from roost.flow.setbacks import Setback, setback_of
from roost.flow.steps import Started
from roost.flow.terms import REACH_TIMEOUT_S
from roost.service.errors import RemoteError, from_rpc_error, retry_after_s
from roost.v1 import worker_pb2
from roost.v1.worker_pb2_grpc import WorkerStub

GRACE_S = 0.5  # beyond what a flow grants: its own timer strikes first, and it alone says what that means
END_TIMEOUT_S = 1.0  # after its completion a worker has this long to end the call; nothing more is expected of it

GenerateCall = grpc.aio.UnaryStreamCall[worker_pb2.GenerateRequest, worker_pb2.GenerateResponse]
AskTarget = Callable[[Ask[Target]], Awaitable[Decision]]
_ClientHeard = Heard[Decision]
_ClientEffect = Effect[Target, Decision]
_SETBACKS = {grpc.StatusCode.RESOURCE_EXHAUSTED: Setback.BUSY, grpc.StatusCode.UNAVAILABLE: Setback.REFUSED}


def heard_of(error: grpc.aio.AioRpcError) -> Lost | Declined:
    """What a worker's status means for the request."""
    if is_transport_failure(error):
        return Lost(why(error))
    typed = from_rpc_error(error)
    setback = setback_of(typed)
    if setback is None and isinstance(typed, RemoteError):  # words that we do not know, or none
        is_too_large = not has_details(error) and "larger than max" in (error.details() or "")
        setback = None if is_too_large else _SETBACKS.get(error.code())
    return Declined(typed, setback, retry_after_s(typed))


class WorkerCall:
    """Generate on one worker, as a flow hears of it: steps, or why there are none."""

    def __init__(self, channels: ChannelCache, call: Call[Decision], request: worker_pb2.GenerateRequest) -> None:
        self._channels = channels
        self._call = call
        self._address = call.decision.worker_address
        self._request = request

    async def heard(self) -> AsyncGenerator[_ClientHeard, None]:
        """Ends after Completed, Declined or Lost."""
        if not self._address:
            yield Lost("it gave no address to call")
            return
        async with self._channels.lease(self._address) as channel:
            try:
                await connect(channel, min(REACH_TIMEOUT_S, self._call.timeout_s + GRACE_S))
                async with aclosing(self._steps(channel)) as steps:
                    async for step in steps:
                        yield step
            except CannotConnect as error:
                self._channels.forget(self._address)
                yield Lost(f"{self._address} {error}")
            except grpc.aio.AioRpcError as error:
                if is_transport_failure(error) and error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    self._channels.forget(self._address)
                yield heard_of(error)

    async def _steps(self, channel: grpc.aio.Channel) -> AsyncGenerator[_ClientHeard, None]:
        call = WorkerStub(channel).Generate(self._request, timeout=self._call.timeout_s + GRACE_S)
        try:
            async for response in self._answers(call):
                step = _step_of(response)
                if isinstance(step, Completed):
                    await _end(call)
                    yield step
                    return
                if step is not None:
                    yield step
            yield Lost("it ended the call without a completion")
        except TimeoutError:  # a connected worker that is frozen shows soon by nothing else
            self._channels.forget(self._address)
            yield Lost(f"it took the call and did not answer within {self._call.answer_s:g} s")
        finally:
            call.cancel()

    async def _answers(self, call: GenerateCall) -> AsyncGenerator[worker_pb2.GenerateResponse, None]:
        """What the worker sends. Raises TimeoutError if the first of it takes too long."""
        answers = aiter(call)
        async with asyncio.timeout(self._call.answer_s):
            first = await anext(answers, None)
        if first is None:
            return
        yield first
        async for answer in answers:
            yield answer


def _step_of(response: worker_pb2.GenerateResponse) -> Accepted | Started | Progress | Token | Completed | None:
    match response.WhichOneof("event"):
        case "accepted":
            return accepted_from_wire(response.accepted)
        case "token":
            return token_from_wire(response.token)
        case "started":
            return started_from_wire(response.started)
        case "progress":
            return progress_from_wire(response.progress)
        case "completion":
            return completed_from_wire(response.completion)
    return None  # a step that a newer worker may have


async def _end(call: GenerateCall) -> None:
    """Lets the worker end the call itself, so that it does not take a finished one for a cancelled one."""
    with suppress(TimeoutError, grpc.aio.AioRpcError):
        async with asyncio.timeout(END_TIMEOUT_S):
            await call.code()


class GenerationRun:
    """One flow on its way. State: what is being done for it, whose events it hears; ended before anything else is begun."""

    def __init__(self, flow: Flow[Target, Decision], ask: AskTarget, channels: ChannelCache, on_pause: Callable[[Pause], None]) -> None:
        self._flow = flow
        self._ask = ask
        self._channels = channels
        self._on_pause = on_pause
        self._doing: AsyncGenerator[_ClientHeard, None] | None = None
        self._address = ""  # of the worker that is called

    async def events(self, request: worker_pb2.GenerateRequest) -> AsyncGenerator[Event, None]:
        """Scheduled (once an attempt) and what the flow hands on. Raises as `RoostClient.generate` says."""
        effect, clock = self._flow.begin(), asyncio.get_running_loop().time
        try:
            while True:
                if isinstance(effect, Emit):
                    yield effect.step
                    if self._flow.is_over:
                        return
                    self._flow.listens(clock())
                elif not isinstance(effect, GoOn):
                    await self._end_doing()
                    if isinstance(effect, Call):
                        yield Scheduled(effect.decision, effect.attempt, effect.previous)
                    self._doing = self._begun(effect, request)
                effect = await self._next()
        finally:
            await self._end_doing()

    async def _end_doing(self) -> None:
        if self._doing is not None:
            await self._doing.aclose()
            self._doing = None

    def _begun(self, effect: _ClientEffect, request: worker_pb2.GenerateRequest) -> AsyncGenerator[_ClientHeard, None] | None:
        """Raises what the flow fails with."""
        match effect:
            case Ask():
                return self._answer(effect)
            case Call(decision):
                self._address = decision.worker_address
                _write_attempt(request, effect)
                return WorkerCall(self._channels, effect, request).heard()
            case Fail(error):
                raise error
            case Pause():
                self._on_pause(effect)
        return None

    async def _next(self) -> _ClientEffect:
        """What the flow wants when the next thing has happened."""
        clock = asyncio.get_running_loop().time
        at = self._flow.next_timer()
        if self._doing is None:
            await asyncio.sleep(max(0.0, at - clock()))
            return self._flow.handle_timer(clock())
        try:
            async with asyncio.timeout_at(at):
                heard = await anext(self._doing)
        except TimeoutError:
            effect = self._flow.handle_timer(clock())
            if not self._flow.is_over:  # the worker fell silent: its connection may be what is dead
                self._channels.forget(self._address)
            return effect
        return self._flow.hear(heard, clock())

    async def _answer(self, ask: Ask[Target]) -> AsyncGenerator[_ClientHeard, None]:
        heard: _ClientHeard
        try:
            heard = Decided(await self._ask(ask))
        except NotAnswered as error:
            heard = Unreachable(error.failure)
        except RoostError as error:
            heard = Refused(error)
        yield heard


def _write_attempt(request: worker_pb2.GenerateRequest, call: Call[Decision]) -> None:
    """Makes it the request of this call: by whom it was sent, and what it goes on from."""
    decision = call.decision
    request.request_id, request.decision_id = decision.request_id, decision.decision_id
    request.waited_s, request.waited_for_load = call.waited_s, decision.waited_for_load
    request.attempt = call.attempt
    if call.seed is not None:
        request.seed = call.seed
    if call.told is not None:
        request.generated.CopyFrom(told_to_wire(call.told))
