"""The client: one object that knows where a cluster is called and does what people ask of it."""

from __future__ import annotations

import asyncio
import random
import secrets
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, Unpack

from roost.client.caller import ClusterCaller
from roost.client.channels import ChannelCache
from roost.client.codec import decision_from_wire, outcome_from_wire, state_of_cluster_from_wire
from roost.client.errors import ClusterUnreachable, Failure
from roost.client.explaining import ExplainedDecision, explained_from_wire
from roost.client.gathering import Gathering
from roost.client.generation import GRACE_S, GenerationRun
from roost.client.requests import MAX_INT32, GenerateOptions, generate_request
from roost.client.results import ClusterState, Completed, Decision, Event, Generation, ModelSnapshot, WorkerOutcome
from roost.client.targets import DEFAULT_TARGET, Target, TargetOrder, parse_targets
from roost.cluster.errors import InvalidField, UnknownRequest
from roost.flow.effects import Ask, Pause
from roost.flow.flow import Flow
from roost.flow.served_times import ServedTimes
from roost.flow.steps import ResumePolicy
from roost.flow.terms import MAX_ATTEMPTS, SILENCE_S, Terms
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng
from roost.service.channels import open_channel
from roost.service.codec import request_to_wire
from roost.service.tls import TlsFiles
from roost.v1 import coordinator_pb2, scheduler_pb2, worker_pb2
from roost.v1.coordinator_pb2_grpc import CoordinatorStub
from roost.v1.scheduler_pb2_grpc import SchedulerStub

GENERATION_ID_BYTES = 16
WATCH_CALL_S = 300.0  # one watching call lives this long and is followed by the next


class RoostClient:
    """Calls a Roost cluster. Use it as an async context manager; one client serves many calls at once.

    `targets`: HOST:PORT, one or several (a sequence, or a text with commas or spaces); they are tried in order, the last one that
    answered first. `timeout_s` bounds every call but a generation or a load, which have `long_timeout_s`. Errors are
    `roost.cluster.errors` (what a server refused), those of `roost.client.errors`, and `RemoteError` for any other status; a `tls`
    file that cannot be used is `CannotStart`. `tls` holds for the scheduler and the workers alike. `draw_id` gives 16 bytes that nobody can
    guess: the name of a generation over all its attempts.
    """

    def __init__(
        self,
        targets: Sequence[str] | str = DEFAULT_TARGET,
        *,
        timeout_s: float = 10.0,
        long_timeout_s: float = 600.0,
        tls: TlsFiles | None = None,
        rng: Rng | None = None,
        draw_id: Callable[[], bytes] = lambda: secrets.token_bytes(GENERATION_ID_BYTES),
    ) -> None:
        self._targets = TargetOrder(parse_targets(targets))
        self._timeout_s = timeout_s
        self._long_timeout_s = long_timeout_s
        self._rng: Rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._draw_id = draw_id
        self._channels = ChannelCache(lambda address: open_channel(address, tls=tls))
        # A worker that is unavailable is not asked again: the scheduler names another one sooner.
        self._worker_channels = ChannelCache(lambda address: open_channel(address, tls=tls, has_retries=False))
        self._caller = ClusterCaller(self._targets, self._channels)
        self._served_times = ServedTimes()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes every channel. Calls still running end."""
        await self._worker_channels.close()
        await self._channels.close()

    async def schedule(  # noqa: PLR0913 - each is a field of the contract
        self,
        model: str,
        *,
        priority: int = 0,
        request_id: str = "",
        excluded: Sequence[str] | frozenset[str] = (),
        prompt_tokens: int = 0,
        max_tokens: int = 0,
        deadline_s: float = 0.0,
        allow_queueing: bool = False,
        dry_run: bool = False,
    ) -> Decision:
        """Where a request for `model` should run now. `deadline_s`: seconds the caller can wait for the first token, 0 for no bound.

        With `dry_run`, where it would: nothing is reserved or counted, and the decision has no id. (A decider of an earlier version decides
        nevertheless; `is_dry_run` of the answer tells.)
        Raises InvalidField, UnknownModel, NoWorkers, NoCapacity, ModelTooLarge, DeadlineImpossible, ClusterUnreachable.
        """
        request = PlacementRequest(
            request_id=request_id or uuid.uuid4().hex,
            model=model,
            priority=priority,
            prompt_tokens=prompt_tokens,
            max_tokens=max_tokens,
            deadline_s=deadline_s,
            excluded=frozenset(excluded),
            may_queue=allow_queueing,
        )
        question = request_to_wire(request)
        question.dry_run = dry_run
        wire = await self._caller.call(
            lambda channel: SchedulerStub(channel).Schedule,
            question,
            timeout_s=self._long_timeout_s if allow_queueing and not deadline_s else self._timeout_s + deadline_s,
        )
        return decision_from_wire(wire)

    async def generate(self, model: str, prompt: str, **options: Unpack[GenerateOptions]) -> AsyncGenerator[Event, None]:
        """Scheduled and Accepted (once an attempt), one Token each, Completed; Progress (once a second) while there is no token.

        A worker that refuses or is lost before the first token is left out and another one asked, up to `max_attempts` times. One that is
        lost later, or says nothing for `silence_s`, is replaced by one that goes on from the last token, and Resumed says so. A scheduler
        that is not reached, or has no worker or no room, is asked again until there is no time left. Ending the iteration ends the call.
        Raises what `schedule` raises, NoWorkerTookIt, GenerationInterrupted (with the text so far), CallTimedOut, EngineFailed,
        ModelLoadFailed. Close it (`contextlib.aclosing`) where a loop may be left early and something still holds the iterator.
        """
        request = generate_request(model, prompt, options.get("request_id") or uuid.uuid4().hex, options, self._draw_id())
        timeout_s = options.get("timeout_s")
        terms = Terms(
            timeout_s or self._long_timeout_s,
            is_told=bool(timeout_s),
            max_attempts=options.get("max_attempts", MAX_ATTEMPTS),
            may_wait=options.get("allow_queueing", True),
            answer_s=self._timeout_s,
            resume=options.get("resume", ResumePolicy.FAST),
            silence_s=options.get("silence_s", SILENCE_S),
        )

        async def ask(asked: Ask[Target]) -> Decision:
            wire = await self._caller.ask(
                asked.target,
                lambda channel: SchedulerStub(channel).Schedule,
                _schedule_request(request, asked),
                reach_s=asked.reach_s,
                timeout_s=asked.timeout_s + GRACE_S,
            )
            return decision_from_wire(wire)

        kind, now = (model, request.max_tokens), asyncio.get_running_loop().time()
        flow = Flow[Target, Decision](terms, tuple(self._targets), self._rng, now, served_s=self._served_times.expected_s(kind))
        run = GenerationRun(flow, ask, self._worker_channels, options.get("on_pause", _keep_quiet))
        async with aclosing(run.events(request)) as events:
            async for event in events:
                if isinstance(event, Completed) and not event.resumes:  # else its times are those of a part
                    self._served_times.note(kind, event.timings.served_s)
                yield event

    async def generate_text(self, model: str, prompt: str, **options: Unpack[GenerateOptions]) -> Generation:
        """The whole text at once, and how it came about. Options and errors as for `generate`."""
        gathering = Gathering()
        async with aclosing(self.generate(model, prompt, **options)) as events:
            async for event in events:
                gathering.add(event)
        return gathering.generation()

    async def state(self) -> ClusterState:
        """The decider's view of the cluster, now. Raises ClusterUnreachable."""
        wire = await self._caller.call(
            lambda channel: SchedulerStub(channel).GetClusterState, scheduler_pb2.GetClusterStateRequest(), timeout_s=self._timeout_s
        )
        return state_of_cluster_from_wire(wire)

    async def watch(self, interval_s: float = 1.0) -> AsyncGenerator[ClusterState, None]:
        """The view at once and whenever it has changed, at most once in `interval_s` (0.05-60). Raises ClusterUnreachable."""
        request = scheduler_pb2.WatchClusterStateRequest(interval_s=interval_s)
        while True:
            answers = self._caller.stream(lambda channel: SchedulerStub(channel).WatchClusterState, request, timeout_s=WATCH_CALL_S)
            async with aclosing(answers):
                async for answer in answers:
                    yield state_of_cluster_from_wire(answer.state)
            await asyncio.sleep(interval_s)  # a server that ends the stream at once is not asked in a tight loop

    async def models(self) -> tuple[ModelSnapshot, ...]:
        """Every model the cluster knows, ordered by name. Raises ClusterUnreachable."""
        return (await self.state()).models

    async def explain(self, request_id: str) -> tuple[ExplainedDecision, ...]:
        """Every decision on that request which a target remembers, in order of time; the targets are asked one after the other.

        Raises UnknownRequest if none remembers it, ClusterUnreachable if none answers.
        """
        found: list[ExplainedDecision] = []
        unknown: UnknownRequest | None = None
        failures: list[Failure] = []
        for target in self._targets.targets:
            caller = ClusterCaller(TargetOrder([target]), self._channels)
            try:
                answer = await caller.call(
                    lambda channel: SchedulerStub(channel).ExplainDecision,
                    scheduler_pb2.ExplainDecisionRequest(request_id=request_id),
                    timeout_s=self._timeout_s,
                )
            except UnknownRequest as error:
                unknown = error
            except ClusterUnreachable as error:
                failures += error.tried
            else:
                found += map(explained_from_wire, answer.records)
        if not found:
            raise unknown or ClusterUnreachable(failures)
        return tuple(sorted(found, key=lambda decision: decision.decided_at))

    async def load_model(self, model: str, *, replicas: int = 0, worker_id: str = "", pin: bool = False) -> tuple[WorkerOutcome, ...]:
        """Makes `model` ready on `worker_id`, or on `replicas` workers (0: 1), and returns when it is: every worker that has it.

        A load that is cancelled, or not ready in time, is called off, unless somebody else waits for the model.

        Raises InvalidField, UnknownModel, UnknownWorker, NoWorkers, ModelTooLarge, CommandFailed, WorkerUnreachable, CallTimedOut.
        """
        if not 0 <= replicas <= MAX_INT32:
            raise InvalidField("replicas", f"must be 1-1000, or 0 for 1 (got {replicas})")
        request = coordinator_pb2.LoadModelRequest(model=model, replicas=replicas, worker_id=worker_id, pin=pin)
        wire = await self._caller.call(
            lambda channel: CoordinatorStub(channel).LoadModel, request, timeout_s=self._long_timeout_s, is_repeatable=False
        )
        return tuple(outcome_from_wire(outcome) for outcome in wire.outcomes)

    async def unload_model(self, model: str, *, worker_id: str = "", when_free: bool = False) -> tuple[WorkerOutcome, ...]:
        """Puts `model` out on `worker_id`, or everywhere. Raises as `load_model`, and ModelInUse.

        With `when_free` it is waited until no request uses the model; if that is not in time, CallTimedOut, and nothing is put out later.
        """
        request = coordinator_pb2.UnloadModelRequest(model=model, worker_id=worker_id, when_free=when_free)
        wire = await self._caller.call(
            lambda channel: CoordinatorStub(channel).UnloadModel, request, timeout_s=self._long_timeout_s, is_repeatable=False
        )
        return tuple(outcome_from_wire(outcome) for outcome in wire.outcomes)

    async def unpin_model(self, model: str, *, worker_id: str = "") -> tuple[WorkerOutcome, ...]:
        """Lets `model` be evicted again on `worker_id`, or everywhere; it stays until room is needed. Raises as `load_model`."""
        request = coordinator_pb2.UnpinModelRequest(model=model, worker_id=worker_id)
        wire = await self._caller.call(
            lambda channel: CoordinatorStub(channel).UnpinModel, request, timeout_s=self._timeout_s, is_repeatable=False
        )
        return tuple(outcome_from_wire(outcome) for outcome in wire.outcomes)

    async def drain_worker(self, worker_id: str, *, resume: bool = False, grace_s: float | None = None) -> int:
        """Lets a worker take nothing new (`resume`: take requests again); returns how many requests it still has to finish.

        What has not ended after `grace_s` seconds goes on on other workers, from its last token; None: it may run to its end.

        Raises InvalidField, UnknownWorker, WorkerUnreachable.
        """
        request = coordinator_pb2.DrainWorkerRequest(worker_id=worker_id, resume=resume, grace_s=grace_s)
        wire = await self._caller.call(
            lambda channel: CoordinatorStub(channel).DrainWorker, request, timeout_s=self._timeout_s, is_repeatable=False
        )
        return wire.unfinished

    def __repr__(self) -> str:
        return f"<RoostClient {self._targets!r} {self._worker_channels!r}>"


def _schedule_request(request: worker_pb2.GenerateRequest, asked: Ask[Target]) -> scheduler_pb2.ScheduleRequest:
    """The question that goes before the request. Raises InvalidField."""
    question = PlacementRequest(
        request_id=request.request_id,
        model=request.model,
        priority=request.priority,
        max_tokens=request.max_tokens,
        deadline_s=asked.deadline_s,
        excluded=asked.excluded,
        may_queue=asked.may_wait,
    )
    return request_to_wire(question)


def _keep_quiet(_: Pause) -> None:
    """Nobody wants to know of pauses."""
