"""The client against stand-ins: what it asks, whom it asks next, and what it gives back."""

from __future__ import annotations

import asyncio
import random
import socket
from contextlib import aclosing

import pytest
from client_peers import Act, StandInCluster

from roost.client import (
    Accepted,
    CallTimedOut,
    ClusterUnreachable,
    Completed,
    Exactness,
    FinishReason,
    GenerationInterrupted,
    NoWorkerTookIt,
    Pause,
    Phase,
    Plane,
    Progress,
    Resumed,
    ResumePolicy,
    RoostClient,
    Scheduled,
    Timings,
    Token,
    Usage,
)
from roost.client.requests import GenerateOptions
from roost.cluster.errors import (
    DeadlineImpossible,
    EngineFailed,
    InvalidField,
    ModelLoadFailed,
    NoCapacity,
    NoWorkers,
    RoostError,
    ServerStopping,
    UnknownModel,
    WorkerDraining,
)
from roost.cluster.worker_state import CacheResult, Liveness
from roost.flow.terms import MIN_SILENCE_S, SILENCE_S
from roost.placement.decision import Action
from roost.v1 import coordinator_pb2, worker_pb2


def client_of(cluster: StandInCluster, timeout_s: float = 5.0) -> RoostClient:
    return RoostClient(cluster.scheduler.address, timeout_s=timeout_s, rng=random.Random(7))


async def test_schedule_returns_the_decision_with_its_reason(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1")
    async with client_of(cluster) as client:
        decision = await client.schedule("llama-7b", priority=3, request_id="r1", excluded=["worker-9"], deadline_s=2.5)
    assert (decision.worker_id, decision.action, decision.plane) == ("worker-1", Action.SERVE, Plane.CENTRAL)
    assert decision.reason == "worker-1 has llama-7b ready"
    assert decision.request_id == "r1"
    asked = cluster.scheduler.requests[0]
    assert (asked.priority, list(asked.excluded_workers), asked.deadline_s) == (3, ["worker-9"], 2.5)


async def test_an_unknown_model_comes_back_as_the_error_that_was_raised(cluster: StandInCluster) -> None:
    async with client_of(cluster) as client:
        with pytest.raises(UnknownModel, match="did you mean llama-7b") as caught:
            await client.schedule("lama-7b")
    assert caught.value.nearest == ("llama-7b",)


async def test_a_bad_priority_is_refused_before_anything_is_sent(cluster: StandInCluster) -> None:
    async with client_of(cluster) as client:
        with pytest.raises(InvalidField, match="priority"):
            await client.schedule("llama-7b", priority=11)
    assert not cluster.scheduler.requests


async def test_a_generation_is_scheduled_accepted_numbered_and_completed(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1")
    async with client_of(cluster) as client:
        events = [event async for event in client.generate("llama-7b", "Say hello", max_tokens=3, seed=0)]
    assert [type(event) for event in events] == [Scheduled, Accepted, Token, Token, Token, Completed]
    assert [event.text for event in events if isinstance(event, Token)] == ["Hello", ",", " world"]
    assert events[1] == Accepted(cluster.scheduler.requests[0].request_id, "worker-1", CacheResult.HIT, 2)


async def test_the_worker_is_told_the_decision_and_the_options(cluster: StandInCluster) -> None:
    worker = await cluster.add_worker("worker-1")
    async with client_of(cluster) as client:
        await client.generate_text("llama-7b", "Hi", request_id="r7", seed=0, stop=["\n"], temperature=0.5, top_p=0.9, top_k=40, priority=2)
    asked = worker.requests[0]
    assert (asked.request_id, asked.decision_id, asked.model, asked.prompt) == ("r7", "decision-1", "llama-7b", "Hi")
    assert asked.HasField("seed")
    assert 0 <= asked.waited_s < 5
    assert (asked.temperature, asked.top_p, asked.top_k, asked.priority, list(asked.stop)) == (0.5, 0.9, 40, 2, ["\n"])


async def test_a_whole_generation_says_how_it_came_about(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1")
    async with client_of(cluster) as client:
        generation = await client.generate_text("llama-7b", "Say hello")
    assert generation.text == "Hello, world"
    assert (generation.worker_id, generation.attempts, generation.cache) == ("worker-1", 1, CacheResult.HIT)
    assert (generation.usage, generation.timings) == (Usage(4, 3), Timings(0.25, 0.5, 0.125, 1.0))
    assert generation.finish_reason is FinishReason.LENGTH
    assert generation.timings.time_to_first_token_s == 0.875


@pytest.mark.parametrize(
    "trouble",
    [
        Act(refusal=WorkerDraining("worker-1")),
        Act(refusal=NoCapacity("the queue of worker-1 is full", 30.0)),
        Act(refusal=EngineFailed("llama-7b", "the child died")),
        Act(refusal=ModelLoadFailed("llama-7b", "the file is corrupt")),
        Act(breaks_at_once=True),
        Act(breaks_after=0),
        Act(tokens=(), ends_without_completion=True),
        Act(first_index=5),
    ],
    ids=[
        "draining",
        "full",
        "engine failed",
        "cannot be loaded",
        "unavailable",
        "broken off",
        "ended without a completion",
        "gap in the tokens",
    ],
)
async def test_a_worker_that_fails_before_the_first_token_is_left_out(cluster: StandInCluster, trouble: Act) -> None:
    first = await cluster.add_worker("worker-1", trouble)
    await cluster.add_worker("worker-2")
    async with client_of(cluster) as client:
        generation = await client.generate_text("llama-7b", "Say hello", request_id="r1")
    assert (generation.text, generation.worker_id, generation.attempts) == ("Hello, world", "worker-2", 2)
    assert len(first.requests) == 1
    assert [(request.request_id, list(request.excluded_workers)) for request in cluster.scheduler.requests] == [
        ("r1", []),
        ("r1", ["worker-1"]),
    ]


async def test_a_worker_that_cannot_be_reached_is_left_out(cluster: StandInCluster, dead_address: str) -> None:
    cluster.scheduler.workers["worker-1"] = dead_address
    cluster.scheduler.workers["worker-0"] = ""
    await cluster.add_worker("worker-2")
    async with client_of(cluster) as client:
        events = [event async for event in client.generate("llama-7b", "Say hello")]
    scheduled = [event for event in events if isinstance(event, Scheduled)]
    assert [event.decision.worker_id for event in scheduled] == ["worker-1", "worker-0", "worker-2"]
    assert scheduled[1].previous == f"worker-1: {dead_address} cannot be connected"
    assert scheduled[2].previous == "worker-0: it gave no address to call"


async def test_a_worker_that_is_killed_before_the_first_token_is_left_out(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1", Act(hangs_after=0))
    await cluster.add_worker("worker-2")
    async with client_of(cluster) as client, aclosing(client.generate("llama-7b", "Say hello")) as events:
        names = []
        async for event in events:
            if isinstance(event, Accepted):
                names.append(event.worker_id)
                if event.worker_id == "worker-1":
                    await cluster.servers["worker-1"].stop(None)
    assert names == ["worker-1", "worker-2"]


async def test_a_stream_whose_worker_is_lost_goes_on_elsewhere_from_its_last_token(cluster: StandInCluster) -> None:
    first = await cluster.add_worker("worker-1", Act(breaks_after=2, seed=7, fingerprint="engine=e"))
    second = await cluster.add_worker("worker-2", Act(fingerprint="engine=e"))
    async with client_of(cluster) as client:
        events = [event async for event in client.generate("llama-7b", "Say hello")]
    assert [event for event in events if isinstance(event, Token)] == [Token(0, 100, "Hello"), Token(1, 101, ","), Token(2, 102, " world")]
    assert [event for event in events if isinstance(event, Resumed)] == [Resumed("worker-1", "worker-2", 2, Exactness.EXACT)]
    completed = events[-1]
    assert isinstance(completed, Completed)
    assert (completed.resumes, completed.exactness, completed.usage.completion_tokens) == (1, Exactness.EXACT, 3)
    assert list(cluster.scheduler.requests[1].excluded_workers) == ["worker-1"]
    (begun,), (resumed,) = first.requests, second.requests
    assert (begun.attempt, begun.HasField("seed"), begun.HasField("generated")) == (1, False, False)
    assert (resumed.attempt, resumed.seed, resumed.resume_policy) == (2, 7, worker_pb2.RESUME_POLICY_FAST)
    assert resumed.generated == worker_pb2.Generated(ids=[100, 101], text="Hello,", tokens=2, fingerprint="engine=e")
    assert begun.generation_id == resumed.generation_id
    assert len(begun.generation_id) == 16


async def test_generations_have_names_that_differ(cluster: StandInCluster) -> None:
    worker = await cluster.add_worker("worker-1")
    async with client_of(cluster) as client:
        for _ in range(3):
            await client.generate_text("llama-7b", "Say hello", request_id="same")
    assert len({request.generation_id for request in worker.requests}) == 3


async def test_progress_is_handed_on_and_a_worker_that_then_falls_silent_is_replaced(cluster: StandInCluster) -> None:
    progress = worker_pb2.Progress(phase=worker_pb2.GENERATION_PHASE_DECODE, eta_s=2.0)
    frozen = await cluster.add_worker("worker-1", Act(hangs_after=1, says=(worker_pb2.GenerateResponse(progress=progress),)))
    await cluster.add_worker("worker-2")
    async with client_of(cluster) as client:
        generating = client.generate("llama-7b", "Say hello", silence_s=MIN_SILENCE_S)
        async with asyncio.timeout(MIN_SILENCE_S + 4):
            events = [event async for event in generating]
        await asyncio.wait_for(frozen.cancelled.wait(), 5)
    assert Progress(Phase.DECODE, eta_s=2.0) in events
    assert Resumed("worker-1", "worker-2", 1, Exactness.EXACT) in events
    assert "".join(event.text for event in events if isinstance(event, Token)) == "Hello, world"


async def test_a_stream_that_is_not_to_be_continued_carries_the_text_so_far(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1", Act(breaks_after=2))
    await cluster.add_worker("worker-2")
    async with client_of(cluster) as client:
        with pytest.raises(GenerationInterrupted, match="worker-1 was lost after 2 tokens") as caught:
            await client.generate_text("llama-7b", "Say hello", resume=ResumePolicy.NEVER)
    assert caught.value.text == "Hello,"
    assert len(cluster.scheduler.requests) == 1


@pytest.mark.parametrize(
    "refusal",
    [InvalidField("max_tokens", "is too large"), UnknownModel("x")],
    ids=["invalid", "unknown"],
)
async def test_what_another_worker_would_refuse_too_is_not_tried_again(cluster: StandInCluster, refusal: RoostError) -> None:
    await cluster.add_worker("worker-1", Act(refusal=refusal))
    await cluster.add_worker("worker-2")
    async with client_of(cluster) as client:
        with pytest.raises(type(refusal), match=str(refusal)):
            await client.generate_text("llama-7b", "Say hello")
    assert len(cluster.scheduler.requests) == 1


async def test_a_worker_that_was_only_busy_is_asked_again_when_nobody_is_left(cluster: StandInCluster) -> None:
    busy = Act(refusal=NoCapacity("the queue is full", 0.05))
    await cluster.add_worker("worker-1", busy, Act())
    await cluster.add_worker("worker-2", Act(refusal=WorkerDraining("worker-2")))
    async with client_of(cluster) as client:
        generation = await client.generate_text("llama-7b", "Say hello")
    assert (generation.worker_id, generation.attempts) == ("worker-1", 3)
    assert [sorted(request.excluded_workers) for request in cluster.scheduler.requests] == [[], ["worker-1"], ["worker-1", "worker-2"], []]
    assert [request.allow_queueing for request in cluster.scheduler.requests] == [True, False, False, True], "only where nobody refused"


async def test_attempts_are_bounded_and_every_failure_is_named(cluster: StandInCluster) -> None:
    for number in range(1, 6):
        await cluster.add_worker(f"worker-{number}", Act(refusal=WorkerDraining(f"worker-{number}")))
    async with client_of(cluster) as client:
        with pytest.raises(NoWorkerTookIt, match="gave up after 2 attempts") as caught:
            await client.generate_text("llama-7b", "Say hello", max_attempts=2)
    assert [failure.who for failure in caught.value.failures] == ["worker-1", "worker-2"]


async def test_a_scheduler_without_room_is_asked_again_when_it_wishes(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1")
    cluster.scheduler.refusals = [NoWorkers("no worker yet", 0.05), NoCapacity("the waiting room is full", 0.05)]
    async with client_of(cluster) as client:
        generation = await client.generate_text("llama-7b", "Say hello")
    assert generation.text == "Hello, world"
    assert len(cluster.scheduler.requests) == 3


async def test_the_worker_is_told_how_long_it_took_until_there_was_one(cluster: StandInCluster) -> None:
    worker = await cluster.add_worker("worker-1")
    cluster.scheduler.refusals = [NoWorkers("no worker yet", 0.3)]
    async with client_of(cluster) as client:
        await client.generate_text("llama-7b", "Hi")
    assert 0.2 < worker.requests[0].waited_s < 20


async def test_a_scheduler_that_never_has_a_worker_is_an_error_of_its_own_words(cluster: StandInCluster) -> None:
    cluster.scheduler.refusals = [NoWorkers("no worker has registered yet", 0.01)] * 500
    async with client_of(cluster) as client:
        with pytest.raises(NoWorkers, match="no worker has registered yet"):
            await client.generate_text("llama-7b", "Say hello", max_attempts=1, timeout_s=1.0)
    assert len(cluster.scheduler.requests) > 1, "attempts are of workers"


async def test_a_model_that_no_worker_can_load_is_told_in_the_workers_words(cluster: StandInCluster) -> None:
    for name in ("worker-1", "worker-2"):
        await cluster.add_worker(name, Act(refusal=ModelLoadFailed("llama-7b", f"its file on {name} is corrupt")))
    async with client_of(cluster) as client:
        with pytest.raises(ModelLoadFailed, match="on worker-2 is corrupt"):
            await client.generate_text("llama-7b", "Say hello")
    assert len(cluster.scheduler.requests) == 3


async def test_a_scheduler_that_comes_late_serves_the_request_and_each_pause_is_told(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1")
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    pauses: list[Pause] = []
    is_waiting = asyncio.Event()

    def note(pause: Pause) -> None:
        pauses.append(pause)
        is_waiting.set()

    async with RoostClient(address, rng=random.Random(7)) as client:
        waiting = asyncio.ensure_future(client.generate_text("llama-7b", "Say hello", timeout_s=20.0, on_pause=note))
        await asyncio.wait_for(is_waiting.wait(), 10)
        await cluster.add_scheduler("late", address)
        assert (await waiting).text == "Hello, world"
    assert all(isinstance(pause.cause, ClusterUnreachable) and pause.wait_s <= 0.5 for pause in pauses)


async def test_the_scheduler_is_told_what_is_left_of_the_callers_time_and_nothing_where_there_is_no_bound(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1")
    async with client_of(cluster) as client:
        await client.generate_text("llama-7b", "Say hello", timeout_s=8.0)
        await client.generate_text("llama-7b", "Say hello")
        await client.generate_text("llama-7b", "Say hello", timeout_s=8.0)
    first, unbounded, later = (request.deadline_s for request in cluster.scheduler.requests)
    assert 7.0 < first <= 8.0
    assert unbounded == 0.0
    assert later <= 8.0 - 1.125, "so long such a generation held its slot"


async def test_what_cannot_begin_in_time_is_refused_at_once(cluster: StandInCluster) -> None:
    cluster.scheduler.refusals = [DeadlineImpossible(8.0, 30.0)]
    async with client_of(cluster) as client:
        with pytest.raises(DeadlineImpossible, match="would wait about 30 s"):
            await client.generate_text("llama-7b", "Say hello", timeout_s=8.0)
    assert len(cluster.scheduler.requests) == 1


async def test_a_cluster_that_is_never_reached_is_said_so_when_the_time_is_up(dead_address: str) -> None:
    async with RoostClient(dead_address) as client:
        with pytest.raises(ClusterUnreachable, match="Connection refused"):
            await client.generate_text("llama-7b", "Say hello", timeout_s=1.0)


async def test_leaving_the_loop_cancels_the_call(cluster: StandInCluster) -> None:
    worker = await cluster.add_worker("worker-1", Act(hangs_after=1))
    async with client_of(cluster) as client:
        async for event in client.generate("llama-7b", "Say hello"):
            if isinstance(event, Token):
                break
        await asyncio.wait_for(worker.cancelled.wait(), 5)


async def test_cancelling_the_task_cancels_the_call(cluster: StandInCluster) -> None:
    worker = await cluster.add_worker("worker-1", Act(hangs_after=1))
    async with client_of(cluster) as client:
        seen = asyncio.Event()

        async def read() -> None:
            async for event in client.generate("llama-7b", "Say hello"):
                if isinstance(event, Token):
                    seen.set()

        task = asyncio.ensure_future(read())
        await asyncio.wait_for(seen.wait(), 5)
        task.cancel()
        await asyncio.wait_for(worker.cancelled.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_generation_has_a_deadline(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1", Act(hangs_after=0))
    async with client_of(cluster) as client:
        with pytest.raises(CallTimedOut, match=r"did not end within 0\.2 s"):
            await client.generate_text("llama-7b", "Say hello", timeout_s=0.2)


@pytest.mark.slow
async def test_a_worker_that_takes_the_call_and_says_nothing_is_lost_and_another_one_asked(cluster: StandInCluster) -> None:
    frozen = await cluster.add_worker("worker-1", Act(never_answers=True))
    await cluster.add_worker("worker-2")
    async with client_of(cluster) as client:
        async with asyncio.timeout(SILENCE_S + 4):
            generation = await client.generate_text("llama-7b", "Say hello")
        assert (generation.worker_id, generation.attempts, generation.text) == ("worker-2", 2, "Hello, world")
        await asyncio.wait_for(frozen.cancelled.wait(), 5)
    assert list(cluster.scheduler.requests[1].excluded_workers) == ["worker-1"]


@pytest.mark.slow
async def test_a_worker_that_has_accepted_may_take_its_time(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1", Act(hangs_after=0))
    await cluster.add_worker("worker-2")
    async with client_of(cluster) as client:
        with pytest.raises(CallTimedOut):
            await client.generate_text("llama-7b", "Say hello", timeout_s=SILENCE_S + 1)
    assert len(cluster.scheduler.requests) == 1


async def test_the_deadline_of_a_generation_covers_its_scheduling(cluster: StandInCluster) -> None:
    cluster.scheduler.hangs = True
    async with client_of(cluster) as client:
        with pytest.raises(CallTimedOut):
            await client.generate_text("llama-7b", "Say hello", timeout_s=0.2)


async def test_a_deadline_after_the_first_token_carries_the_text(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1", Act(hangs_after=1))
    async with client_of(cluster) as client:
        with pytest.raises(GenerationInterrupted, match="did not end within") as caught:
            await client.generate_text("llama-7b", "Say hello", timeout_s=0.5)
    assert caught.value.text == "Hello"


async def test_the_next_target_is_asked_when_one_is_not_reached_and_then_preferred(cluster: StandInCluster, dead_address: str) -> None:
    await cluster.add_worker("worker-1")
    async with RoostClient([dead_address, cluster.scheduler.address], timeout_s=5.0) as client:
        assert (await client.schedule("llama-7b")).worker_id == "worker-1"
        assert repr(client).startswith(f"<RoostClient <TargetOrder {cluster.scheduler.address}, {dead_address}>")


async def test_a_target_that_is_stopping_is_passed_over(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1")
    cluster.scheduler.refusals = [ServerStopping("the coordinator")]
    second = await cluster.add_scheduler("second")
    async with RoostClient([cluster.scheduler.address, second], timeout_s=5.0) as client:
        assert (await client.schedule("llama-7b")).worker_id == "worker-1"


async def test_a_refusal_is_an_answer_and_no_other_target_is_asked(cluster: StandInCluster) -> None:
    second = await cluster.add_scheduler("second")
    async with RoostClient([cluster.scheduler.address, second], timeout_s=5.0) as client:
        with pytest.raises(UnknownModel):
            await client.schedule("lama-7b")
    assert len(cluster.scheduler.requests) == 1


async def test_a_dead_cluster_is_one_error_that_names_every_address(dead_address: str) -> None:
    async with RoostClient([dead_address, "127.0.0.1:2"], timeout_s=5.0) as client:
        with pytest.raises(ClusterUnreachable, match=r"127\.0\.0\.1:1: .*Connection refused.*127\.0\.0\.1:2: ") as caught:
            await client.state()
    assert [failure.who for failure in caught.value.tried] == [dead_address, "127.0.0.1:2"]


async def test_a_target_that_speaks_something_else_is_named_as_such() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with RoostClient(f"127.0.0.1:{port}", timeout_s=2.0) as client:
            with pytest.raises(ClusterUnreachable, match=f"127.0.0.1:{port}: something listens there that does not speak gRPC"):
                await client.state()


@pytest.mark.parametrize("timeout_s", [1.0, pytest.param(20.0, marks=pytest.mark.slow)])
async def test_a_target_that_takes_connections_and_says_nothing_is_said_not_to_answer(timeout_s: float) -> None:
    with socket.socket() as frozen:  # as of a stopped process: the system itself takes connections for it
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        address = f"127.0.0.1:{frozen.getsockname()[1]}"
        async with RoostClient(address, timeout_s=timeout_s) as client:
            with pytest.raises(ClusterUnreachable, match=f"{address}: it accepts connections but does not answer"):
                await client.state()


async def test_a_target_that_hangs_has_its_share_of_the_time(cluster: StandInCluster) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with RoostClient([address, cluster.scheduler.address], timeout_s=1.0) as client:
            assert (await client.state()).active_workers == 1


async def test_a_cluster_that_does_not_answer_is_unreachable(cluster: StandInCluster) -> None:
    cluster.scheduler.hangs = True
    async with client_of(cluster, timeout_s=0.2) as client:
        with pytest.raises(ClusterUnreachable, match="did not answer in time"):
            await client.state()


async def test_the_state_has_every_worker_and_model(cluster: StandInCluster) -> None:
    async with client_of(cluster) as client:
        state = await client.state()
    assert (state.cache_hit_rate, state.total_requests, state.active_workers) == (0.75, 2**40, 1)
    worker = state.workers[0]
    assert (worker.state.node_id, worker.liveness, worker.age_s) == ("worker-1", Liveness.SUSPECT, 1.5)
    assert worker.state.ready_models == ("llama-7b",)
    assert [model.model.is_simulated for model in state.models] == [True, False]
    assert state.models[0].ready_on == ("worker-1",)


async def test_watching_gives_each_state_and_ends_when_left(cluster: StandInCluster) -> None:
    async with client_of(cluster) as client, aclosing(client.watch(0.05)) as states:
        seen = [(await anext(states)).policy, (await anext(states)).policy]
    assert seen == ["weighted-score", "weighted-score"]


async def test_watching_a_cluster_that_is_lost_is_an_error(cluster: StandInCluster) -> None:
    async with client_of(cluster) as client, aclosing(client.watch(0.05)) as states:
        await anext(states)
        await cluster.servers["scheduler"].stop(None)
        with pytest.raises(ClusterUnreachable):
            async for _ in states:
                pass


async def test_an_operator_loads_unloads_and_drains(cluster: StandInCluster) -> None:
    async with client_of(cluster) as client:
        loaded = await client.load_model("llama-7b", worker_id="worker-1", pin=True)
        unloaded = await client.unload_model("llama-7b")
        unfinished = await client.drain_worker("worker-1", resume=True)
    assert [(outcome.worker_id, outcome.elapsed_s) for outcome in loaded] == [("worker-1", 1.5)]
    assert unloaded == ()
    assert unfinished == 3
    assert cluster.scheduler.operations == [
        coordinator_pb2.LoadModelRequest(model="llama-7b", worker_id="worker-1", pin=True),
        coordinator_pb2.UnloadModelRequest(model="llama-7b"),
        coordinator_pb2.DrainWorkerRequest(worker_id="worker-1", resume=True),
    ]


@pytest.mark.parametrize(
    ("prompt", "options", "field"),
    [
        ("", {}, "prompt"),
        ("x" * (8 * 1024 * 1024 + 1), {}, "prompt"),
        ("\udc80", {}, "prompt"),
        ("Hi", {"max_tokens": -1}, "max_tokens"),
        ("Hi", {"max_tokens": 2**40}, "max_tokens"),
        ("Hi", {"seed": -1}, "seed"),
        ("Hi", {"stop": ["\udc80"]}, "request"),
        ("Hi", {"max_attempts": 0}, "max_attempts"),
        ("Hi", {"timeout_s": -1.0}, "timeout_s"),
    ],
)
async def test_a_value_that_cannot_be_sent_is_named(prompt: str, options: GenerateOptions, field: str, dead_address: str) -> None:
    async with RoostClient(dead_address) as client:
        with pytest.raises(InvalidField) as caught:
            await client.generate_text("llama-7b", prompt, **options)
    assert caught.value.field == field
