"""Generations on their way: never silent for long, at most one run of each, and no slot for a reader that does not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from worker_world import DEADLINE_S, World, world

from roost.cluster.errors import HandedOver, NoCapacity, ReaderStalled, StaleAttempt
from roost.v1 import worker_pb2
from roost.worker.delivery import SILENCE_S, Deliveries
from roost.worker.engines.interface import ResumePolicy
from roost.worker.generation import GenerationRequest

G = b"g" * 16


@dataclass
class Reader:
    """A caller's side: takes answers until it is told to stop reading."""

    answers: list[worker_pb2.GenerateResponse] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    stops_after: int = 1_000_000
    writes_at_once: int = 0

    def __post_init__(self) -> None:
        self.reads.set()

    async def take(self, answer: worker_pb2.GenerateResponse) -> None:
        self.writes_at_once += 1
        assert self.writes_at_once == 1
        try:
            await self.reads.wait()
            self.answers.append(answer)
            if len(self.answers) == self.stops_after:
                self.reads.clear()
            self.grown.set()
        finally:
            self.writes_at_once -= 1

    @property
    def kinds(self) -> list[str]:
        return [answer.WhichOneof("event") or "" for answer in self.answers]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                self.grown.clear()
                await self.grown.wait()


@dataclass
class Post:
    """Deliveries whose clock the test turns."""

    here: World
    deliveries: Deliveries
    tasks: asyncio.TaskGroup
    now: list[float]
    readers: list[Reader] = field(default_factory=list)

    def begin(self, stops_after: int = 1_000_000, **fields: object) -> tuple[asyncio.Task[None], Reader]:
        reader = Reader(stops_after=stops_after)
        request = GenerationRequest(model="a", prompt="one two three", **fields)  # type: ignore[arg-type]
        return asyncio.create_task(self.deliveries.deliver(request, reader.take)), reader

    async def pass_time(self, seconds: float) -> None:
        self.now[0] += seconds
        self.deliveries._look(self.now[0], self.tasks)
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def post(*, slots: int = 2, reader_timeout_s: float = 60.0) -> AsyncIterator[Post]:
    now = [0.0]
    async with world(slots=slots) as here, asyncio.TaskGroup() as tasks:
        yield Post(here, Deliveries(here.runtime, clock=lambda: now[0], reader_timeout_s=reader_timeout_s, handover_s=0.05), tasks, now)


async def test_a_stream_that_has_nothing_to_tell_says_every_second_how_it_stands() -> None:
    async with post() as here:
        here.here.engine.hold_loads()
        here.here.engine.hold_tokens()
        task, reader = here.begin(max_tokens=2)
        await reader.until(lambda: "accepted" in reader.kinds)
        for _ in range(8):
            await here.pass_time(SILENCE_S / 2)
        assert reader.kinds == ["accepted"] + ["progress"] * 4
        assert reader.answers[-1].progress.phase == worker_pb2.GENERATION_PHASE_LOADING
        here.here.engine.let_loads()
        await reader.until(lambda: "started" in reader.kinds)
        await here.pass_time(SILENCE_S)
        assert reader.answers[-1].progress.phase == worker_pb2.GENERATION_PHASE_PREFILL
        here.here.engine.let_one_token()
        await reader.until(lambda: "token" in reader.kinds)
        await here.pass_time(SILENCE_S * 0.9)
        assert reader.kinds[-1] == "token"
        await here.pass_time(SILENCE_S)
        assert reader.answers[-1].progress.phase == worker_pb2.GENERATION_PHASE_DECODE
        here.here.engine.let_tokens()
        await task
        assert reader.kinds[-1] == "completion"


async def test_one_that_waits_for_a_slot_is_told_how_many_are_ahead() -> None:
    async with post(slots=1) as here:
        here.here.engine.hold_tokens()
        first, _ = here.begin()
        await here.here.until(lambda: here.here.runtime.core.slots.busy == 1)
        waiting = [here.begin() for _ in range(2)]
        await waiting[-1][1].until(lambda: bool(waiting[-1][1].answers))
        await here.pass_time(SILENCE_S)
        told = [reader.answers[-1].progress for _, reader in waiting]
        assert [(progress.phase, progress.ahead) for progress in told] == [
            (worker_pb2.GENERATION_PHASE_QUEUED, 0),
            (worker_pb2.GENERATION_PHASE_QUEUED, 1),
        ]
        here.here.engine.let_tokens()
        await asyncio.gather(first, *(task for task, _ in waiting))


async def test_a_token_that_comes_while_progress_is_being_told_waits_for_it() -> None:
    async with post() as here:
        here.here.engine.hold_tokens()
        task, reader = here.begin(max_tokens=2)
        await reader.until(lambda: "started" in reader.kinds)
        reader.reads.clear()
        await here.pass_time(SILENCE_S)
        here.here.engine.let_tokens()
        await here.pass_time(0.0)
        reader.reads.set()
        await task
        assert reader.kinds == ["accepted", "started", "progress", "token", "token", "completion"]


async def test_a_reader_that_takes_nothing_loses_its_slot_after_its_time() -> None:
    async with post(slots=1, reader_timeout_s=60.0) as here:
        task, reader = here.begin(stops_after=5, max_tokens=1000)
        await reader.until(lambda: len(reader.answers) == 5)
        await here.pass_time(0.0)
        await here.pass_time(59.0)
        assert here.here.runtime.core.slots.busy == 1
        await here.pass_time(1.0)
        with pytest.raises(ReaderStalled):
            await task
        assert here.here.runtime.core.slots.busy == 0


async def test_a_stalled_reader_has_half_of_its_time_while_others_wait_for_the_slot() -> None:
    async with post(slots=1, reader_timeout_s=60.0) as here:
        stalled, reader = here.begin(stops_after=5, max_tokens=1000)
        await reader.until(lambda: len(reader.answers) == 5)
        await here.pass_time(0.0)
        other, other_reader = here.begin(max_tokens=1)
        await other_reader.until(lambda: bool(other_reader.answers))
        await here.pass_time(30.0)
        with pytest.raises(ReaderStalled):
            await stalled
        await other
        assert other_reader.kinds[-1] == "completion"


async def test_a_reader_that_is_slow_and_reads_keeps_its_slot() -> None:
    async with post(slots=1, reader_timeout_s=60.0) as here:
        task, reader = here.begin(max_tokens=6)
        await reader.until(lambda: bool(reader.answers))
        while "completion" not in reader.kinds:
            reader.reads.clear()
            await here.pass_time(50.0)
            reader.reads.set()
            await here.pass_time(0.0)
        await task


async def test_a_draining_worker_hands_over_what_has_not_ended_after_its_grace_and_can_go_on_elsewhere() -> None:
    async with post(slots=2) as here:
        core = here.here.runtime.core
        here.here.engine.hold_tokens()
        begun = [
            here.begin(max_tokens=2, generation_id=G),
            here.begin(max_tokens=2, generation_id=b"n" * 16, resume_policy=ResumePolicy.NEVER),
            here.begin(max_tokens=2, generation_id=b"q" * 16),
        ]
        for _, reader in begun:
            await reader.until(lambda reader=reader: bool(reader.answers))  # type: ignore[misc]
        core.drain(resume=False, until=5.0)
        await here.pass_time(4.9)
        assert core.slots.unfinished == 3
        await here.pass_time(0.1)
        for place in (0, 2):  # running, and waiting for a slot
            with pytest.raises(HandedOver, match="worker-1 is draining and hands its generations over"):
                await begun[place][0]
        here.here.engine.let_tokens()
        await begun[1][0]
        assert begun[1][1].kinds[-1] == "completion"
        assert core.slots.unfinished == 0


async def test_a_worker_that_takes_requests_again_hands_nothing_over() -> None:
    async with post() as here:
        here.here.engine.hold_tokens()
        task, reader = here.begin(max_tokens=2, generation_id=G)
        await reader.until(lambda: bool(reader.answers))
        here.here.runtime.drain(resume=False, grace_s=0.0)
        here.here.runtime.drain(resume=True)
        await here.pass_time(1e9)
        here.here.engine.let_tokens()
        await task


async def test_a_higher_attempt_ends_the_older_run_before_it_begins() -> None:
    async with post(slots=1) as here:
        here.here.engine.hold_tokens()
        older, older_reader = here.begin(max_tokens=1000, generation_id=G)
        here.here.engine.let_one_token()
        await older_reader.until(lambda: "token" in older_reader.kinds)
        newer, reader = here.begin(max_tokens=3, generation_id=G, attempt=1)
        with pytest.raises(StaleAttempt) as refusal:
            await older
        assert (refusal.value.attempt, refusal.value.last_attempt) == (0, 1)
        here.here.engine.let_tokens()
        await newer
        assert reader.kinds[-1] == "completion"
        assert here.here.engine.most_running == 1


async def test_an_attempt_that_is_not_the_last_is_refused_also_after_the_end() -> None:
    async with post() as here:
        await here.begin(generation_id=G, attempt=3)[0]
        for attempt in (0, 3):
            with pytest.raises(StaleAttempt):
                await here.begin(generation_id=G, attempt=attempt, decision_id=f"d-{attempt}")[0]
        assert here.here.count("roost_requests_total", model="a", result="refused") == 2
        await here.begin(generation_id=G, attempt=4)[0]


async def test_of_three_attempts_at_once_the_last_one_is_served() -> None:
    async with post(slots=1) as here:
        here.here.engine.hold_tokens()
        attempts = [here.begin(generation_id=G, attempt=number) for number in range(3)]
        await asyncio.sleep(0)
        here.here.engine.let_tokens()
        ended = await asyncio.gather(*(task for task, _ in attempts), return_exceptions=True)
        assert [type(each) for each in ended] == [StaleAttempt, StaleAttempt, type(None)]
        assert here.here.engine.most_running == 1


async def test_an_older_run_that_does_not_end_refuses_the_newer_one_with_a_time_to_retry() -> None:
    async with post() as here:
        stuck = asyncio.Event()

        async def never_ends(_answer: worker_pb2.GenerateResponse) -> None:
            while not stuck.is_set():
                try:
                    await stuck.wait()
                except asyncio.CancelledError:
                    continue

        request = GenerationRequest(model="a", prompt="x", generation_id=G)
        older = asyncio.create_task(here.deliveries.deliver(request, never_ends))
        await here.here.until(lambda: here.here.runtime.core.slots.unfinished > 0)
        with pytest.raises(NoCapacity, match="older run has not ended"):
            await here.begin(generation_id=G, attempt=1)[0]
        stuck.set()
        await older


async def test_a_caller_that_leaves_while_progress_is_told_frees_everything() -> None:
    async with post(slots=1) as here:
        here.here.engine.hold_tokens()
        task, reader = here.begin(max_tokens=2)
        await reader.until(lambda: "started" in reader.kinds)
        reader.reads.clear()
        await here.pass_time(SILENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert reader.writes_at_once == 0
        assert here.here.runtime.core.slots.busy == 0
