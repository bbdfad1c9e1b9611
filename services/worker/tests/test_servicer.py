"""roost.v1.Worker over a real gRPC server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from steered_engine import SteeredEngine
from worker_world import BESIDE, DEADLINE_S, answers_of, serving, settings_for

from roost.cluster.errors import NoCapacity
from roost.cluster.worker_state import CacheResult, DecisionOutcome
from roost.service.errors import from_rpc_error
from roost.v1 import state_pb2, worker_pb2, worker_pb2_grpc
from roost.worker.app import RunningWorker

MODELS = "".join(
    f'[models.{name}]\nengine = "simulated"\nsource = "published"\nsize = "{size}MB"\n'
    for name, size in (("a", 40), ("b", 40), ("big", 101))
)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(MODELS)
    return path


@pytest.fixture
def engine() -> SteeredEngine:
    return SteeredEngine()


@pytest.fixture
async def served(models: Path, engine: SteeredEngine) -> AsyncIterator[tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub]]:
    async with serving(settings_for(models=models, memory="100MB", slots=1, queue_capacity=2), engine) as pair:
        yield pair


async def events_of(stub: worker_pb2_grpc.WorkerAsyncStub, **fields: object) -> list[worker_pb2.GenerateResponse]:
    request = worker_pb2.GenerateRequest(**{"model": "a", "prompt": "one two", **fields})  # type: ignore[arg-type]
    return await answers_of(stub.Generate(request, timeout=DEADLINE_S))


Watch = grpc.aio.UnaryStreamMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
Call = grpc.aio.UnaryStreamCall[worker_pb2.GenerateRequest, worker_pb2.GenerateResponse]


async def status_of(watching: grpc.aio.UnaryStreamCall[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]) -> int:
    """What a watched health says next."""
    answer = await watching.read()
    assert isinstance(answer, health_pb2.HealthCheckResponse)
    return answer.status


async def begun(stub: worker_pb2_grpc.WorkerAsyncStub, **fields: object) -> Call:
    """A call whose first event, that it was accepted, has been read."""
    request = worker_pb2.GenerateRequest(**{"model": "a", "prompt": "one two", "max_tokens": 1, **fields})  # type: ignore[arg-type]
    call: Call = stub.Generate(request, timeout=DEADLINE_S)
    await call.read()
    return call


async def rest_of(call: Call) -> list[str | None]:
    """What the remaining events are."""
    kinds: list[str | None] = []
    while isinstance(event := await call.read(), worker_pb2.GenerateResponse):
        kinds.append(event.WhichOneof("event"))
    return [kind for kind in kinds if kind not in BESIDE]


async def refused(stub: worker_pb2_grpc.WorkerAsyncStub, **fields: object) -> tuple[grpc.StatusCode, str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await events_of(stub, **fields)
    return caught.value.code(), from_rpc_error(caught.value).reason, caught.value.details() or ""


async def test_a_generation_is_accepted_streamed_without_gaps_and_completed(
    served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub],
) -> None:
    accepted, *tokens, completion = await events_of(served[1], max_tokens=3)
    assert accepted.accepted.worker_id == "worker-1"
    assert accepted.accepted.request_id
    assert accepted.accepted.cache_result == state_pb2.CACHE_RESULT_COLD_START
    assert [(event.token.index, event.token.text) for event in tokens] == [(0, " 0"), (1, " 1"), (2, " 2")]
    assert completion.completion.finish_reason == worker_pb2.FINISH_REASON_LENGTH
    assert completion.completion.usage == worker_pb2.Usage(prompt_tokens=2, completion_tokens=3)
    assert completion.completion.cache_result == state_pb2.CACHE_RESULT_COLD_START
    assert completion.completion.timings.load_s > 0


async def test_sampling_reaches_the_engine_as_asked(
    served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub], engine: SteeredEngine
) -> None:
    await events_of(served[1], max_tokens=2, temperature=0.5, top_p=0.9, top_k=40, seed=0, stop=["\n"])
    (sampling,) = engine.asked
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed, sampling.stop) == (0.5, 0.9, 40, 0, ("\n",))
    await events_of(served[1], max_tokens=2)
    assert engine.asked[1].seed is None


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model": ""}, "model"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * (9 << 20)}, "prompt"),
        ({"priority": 11}, "priority"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": 1_000_000}, "max_tokens"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 2.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stop": ["x"] * 9}, "stop"),
        ({"waited_s": -0.1}, "waited_s"),
        ({"waited_s": math.nan}, "waited_s"),
    ],
)
async def test_a_bad_field_is_an_invalid_argument_that_names_it(
    served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub], fields: dict[str, object], named: str
) -> None:
    code, reason, message = await refused(served[1], **fields)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert message.startswith(f"{named}:")


async def test_a_bad_field_is_counted_and_told_to_the_decider(served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub]) -> None:
    await refused(served[1], priority=11, decision_id="decision-1")
    await refused(served[1], decision_id="x" * 129)  # no decider gave such a one; reporting it would have the report refused
    outcomes = served[0].runtime.core.outcomes.unsent()
    assert outcomes == (DecisionOutcome("decision-1", CacheResult.REFUSED),)


async def test_a_message_over_grpcs_limit_is_refused_by_grpc_and_the_worker_lives_on(
    served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub],
) -> None:
    code, _, _ = await refused(served[1], prompt="x" * (20 << 20))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(await events_of(served[1], max_tokens=1)) == 3


async def test_every_refusal_has_its_status(served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub], engine: SteeredEngine) -> None:
    engine.failing["b"] = "b.gguf is missing"
    assert (await refused(served[1], model="aa"))[:2] == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL")
    assert (await refused(served[1], model="big"))[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_TOO_LARGE")
    assert (await refused(served[1], model="b"))[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_LOAD_FAILED")
    engine.breaks_at = 0
    assert (await refused(served[1]))[:2] == (grpc.StatusCode.ABORTED, "ENGINE_FAILED")
    engine.breaks_at = None
    await served[1].Drain(worker_pb2.DrainRequest())
    assert (await refused(served[1]))[:2] == (grpc.StatusCode.UNAVAILABLE, "WORKER_DRAINING")
    await served[1].Drain(worker_pb2.DrainRequest(resume=True))
    assert len(await events_of(served[1], max_tokens=1)) == 3


async def test_a_full_queue_is_resource_exhausted_with_a_time_to_retry(
    served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub], engine: SteeredEngine
) -> None:
    engine.hold_tokens()
    calls = [await begun(served[1]) for _ in range(3)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await events_of(served[1])
    refusal = from_rpc_error(caught.value)
    assert isinstance(refusal, NoCapacity)
    assert refusal.retry_after_s > 0
    engine.let_tokens()
    for call in calls:
        assert await rest_of(call) == ["token", "completion"]


async def test_ending_the_call_frees_the_slot_within_one_token(
    served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub], engine: SteeredEngine
) -> None:
    engine.hold_tokens()
    call = await begun(served[1], max_tokens=1000)
    engine.let_one_token()
    while isinstance(answer := await call.read(), worker_pb2.GenerateResponse) and answer.WhichOneof("event") in BESIDE:
        continue
    assert isinstance(answer, worker_pb2.GenerateResponse)
    assert answer.WhichOneof("event") == "token"
    call.cancel()
    async with asyncio.timeout(DEADLINE_S):
        await engine.ended.wait()
        await served[0].runtime.wait_idle()
    assert served[0].runtime.core.slots.busy == 0
    engine.let_tokens()
    assert len(await events_of(served[1], max_tokens=1)) == 3


async def test_a_deadline_that_passes_while_queued_frees_the_place(
    served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub], engine: SteeredEngine
) -> None:
    engine.hold_tokens()
    running = await begun(served[1])
    hasty = served[1].Generate(worker_pb2.GenerateRequest(model="a", prompt="x"), timeout=0.05)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [event async for event in hasty]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    engine.let_tokens()
    assert await rest_of(running) == ["token", "completion"]
    async with asyncio.timeout(DEADLINE_S):
        await served[0].runtime.wait_idle()


async def test_models_are_loaded_listed_and_unloaded(served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub]) -> None:
    stub = served[1]
    loaded = await stub.LoadModel(worker_pb2.WorkerLoadModelRequest(model="a", pin=True))
    assert loaded.cache_result == state_pb2.CACHE_RESULT_COLD_START
    again = await stub.LoadModel(worker_pb2.WorkerLoadModelRequest(model="a"))
    assert (again.cache_result, again.elapsed_s) == (state_pb2.CACHE_RESULT_HIT, 0.0)
    listed = await stub.ListModels(worker_pb2.ListModelsRequest())
    assert [(model.name, model.simulated) for model in listed.catalogue] == [("a", True), ("b", True), ("big", True)]
    assert all(model.load_time_s > 0 for model in listed.catalogue)
    assert [(model.name, model.phase, model.pinned) for model in listed.resident] == [("a", state_pb2.MODEL_PHASE_READY, True)]
    assert (await stub.UnloadModel(worker_pb2.WorkerUnloadModelRequest(model="a"))).was_resident
    assert not (await stub.UnloadModel(worker_pb2.WorkerUnloadModelRequest(model="a"))).was_resident


async def test_the_state_says_what_a_coordinator_would_get(
    served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub], engine: SteeredEngine
) -> None:
    engine.hold_tokens()
    call, queued = await begun(served[1]), await begun(served[1], priority=3)
    engine.let_one_token()
    assert await rest_of(call) == ["token", "completion"]
    report = (await served[1].GetState(worker_pb2.GetStateRequest())).report
    assert (report.node_id, report.address) == ("worker-1", f"127.0.0.1:{served[0].port}")
    assert list(report.loaded_models) == ["a"]
    assert (report.slots, report.memory_capacity_bytes, report.memory_used_bytes) == (1, 100_000_000, 40_000_000)
    assert report.queue_depth == sum(report.queue_by_priority)
    assert report.gpu_source == state_pb2.GPU_SOURCE_BUSY_SLOTS
    assert report.gpu_utilization == report.busy_slots / report.slots
    assert (report.cache.cold_starts + report.cache.joins + report.cache.hits, report.cache.loads) == (2, 1)
    assert report.timings[0].name == "a"
    engine.let_tokens()
    assert await rest_of(queued) == ["token", "completion"]


async def test_health_is_not_serving_for_as_long_as_a_worker_drains(
    served: tuple[RunningWorker, worker_pb2_grpc.WorkerAsyncStub],
) -> None:
    running, stub = served
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        watch: Watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        watching = watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        told = [await status_of(watching)]
        for resume in (False, True):
            await stub.Drain(worker_pb2.DrainRequest(resume=resume), timeout=DEADLINE_S)
            told.append(await status_of(watching))
        watching.cancel()
    statuses = health_pb2.HealthCheckResponse
    assert told == [statuses.SERVING, statuses.NOT_SERVING, statuses.SERVING]
