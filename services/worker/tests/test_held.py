"""Requests are held within so many bytes."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import grpc
import pytest
from steered_engine import SteeredEngine
from worker_world import DEADLINE_S, serving, settings_for

from roost.cluster.errors import NoCapacity
from roost.v1 import worker_pb2
from roost.worker.held import COPIES, HeldRequests

MODELS = '[models.a]\nengine = "simulated"\nsource = "published"\nsize = "40MB"\n'


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(MODELS)
    return path


def test_requests_are_held_up_to_the_limit_and_one_always() -> None:
    held = HeldRequests(COPIES * 1000)
    with held.holding(5000), pytest.raises(NoCapacity, match=r"request_memory"), held.holding(1):
        raise AssertionError
    with held.holding(600):
        with held.holding(400):
            assert held.bytes == COPIES * 1000
        with pytest.raises(NoCapacity), held.holding(401):
            raise AssertionError
    assert held.bytes == 0


async def test_a_worker_refuses_prompts_beyond_its_memory_for_requests(models: Path) -> None:
    engine = SteeredEngine()
    engine.hold_tokens()
    async with serving(settings_for(models=models, request_memory=10_000_000, slots=8), engine) as (_, stub):

        def ask(megabytes: int) -> grpc.aio.UnaryStreamCall[worker_pb2.GenerateRequest, worker_pb2.GenerateResponse]:
            return stub.Generate(worker_pb2.GenerateRequest(model="a", prompt="x" * megabytes * 10**6, max_tokens=1), timeout=DEADLINE_S)

        first = ask(2)
        await first.read()
        second = ask(2)
        with pytest.raises(grpc.aio.AioRpcError, match="request_memory") as refusal:
            await second.read()
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        third = ask(1)
        await third.read()
        engine.let_tokens()
        while await first.read() is not grpc.aio.EOF:
            pass
        again = ask(2)
        assert await again.read() is not grpc.aio.EOF


async def test_a_refused_request_is_freed_at_once(models: Path) -> None:
    """Without waiting for the garbage collector, which may take minutes to come to the oldest objects."""
    async with serving(settings_for(models=models), SteeredEngine()) as (_, stub):
        gc.collect()
        gc.disable()
        try:
            call = stub.Generate(worker_pb2.GenerateRequest(model="none", prompt="x" * 10**6), timeout=DEADLINE_S)
            with pytest.raises(grpc.aio.AioRpcError, match="no catalogue"):
                await call.read()
            await asyncio.sleep(0)
            held = sum(isinstance(each, worker_pb2.GenerateRequest) for each in gc.get_objects())
        finally:
            gc.enable()
        assert held <= 1  # the caller's own
