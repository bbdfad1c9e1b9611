"""A catalogue that is changed while the worker runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc.aio import AioRpcError
from steered_engine import SteeredEngine
from tiny_coordinator import TinyCoordinator, listening
from worker_world import DEADLINE_S, serving, settings_for

from roost.v1 import state_pb2, worker_pb2


def entry(name: str, size: str = "40MB") -> str:
    return f'[models.{name}]\nengine = "simulated"\nsource = "published"\nsize = "{size}"\n'


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return write(tmp_path / "models.toml", entry("a") + entry("b"))


def names(report: state_pb2.WorkerLoadReport) -> list[str]:
    return [model.name for model in report.catalogue.models]


async def told(peer: TinyCoordinator, *expected: str) -> None:
    await peer.until(lambda: any(names(report) == list(expected) for stream in peer.streams for report in stream.reports))


async def test_a_model_that_was_added_is_told_and_served(models: Path) -> None:
    async with listening() as (peer, port), serving(settings_for(models=models, coordinator_port=port), SteeredEngine()) as (running, stub):
        await peer.until_reported(lambda report: report.sequence >= 1)
        write(models, entry("a") + entry("b") + entry("added"))
        await running.reload()
        await told(peer, "a", "added", "b")
        request = worker_pb2.GenerateRequest(model="added", prompt="x", max_tokens=1)
        assert [event async for event in stub.Generate(request, timeout=DEADLINE_S)]
        assert len(peer.streams) == 1


async def test_an_idle_model_that_was_removed_or_changed_is_put_out(models: Path) -> None:
    engine = SteeredEngine()
    async with listening() as (peer, port), serving(settings_for(models=models, coordinator_port=port), engine) as (running, _):
        await running.runtime.load("a")
        await running.runtime.load("b", is_pinned=True)
        write(models, entry("b", "30MB"))
        await running.reload()
        await told(peer, "b")
        assert engine.memory_mb == 0
        await running.runtime.load("b")
        assert engine.memory_mb == 30


async def test_a_busy_model_that_was_removed_stays_until_it_is_put_out(models: Path) -> None:
    engine = SteeredEngine()
    async with serving(settings_for(models=models), engine) as (running, stub):
        engine.hold_tokens()
        call = stub.Generate(worker_pb2.GenerateRequest(model="a", prompt="x", max_tokens=1), timeout=DEADLINE_S)
        events = aiter(call)
        await anext(events)
        write(models, entry("b"))
        await running.reload()
        engine.let_tokens()
        assert [event.WhichOneof("event") async for event in events][-2:] == ["token", "completion"]
        assert await running.runtime.unload("a")
        await running.reload()
        assert running.runtime.core.catalogue.names == ("b",)


async def test_a_mistake_in_the_file_changes_nothing(models: Path) -> None:
    async with serving(settings_for(models=models), SteeredEngine()) as (running, _):
        write(models, "[models.a\n")
        await running.reload()
        assert running.runtime.core.catalogue.names == ("a", "b")


async def test_a_catalogue_that_is_read_anew_has_what_failed_forgotten_and_told(models: Path) -> None:
    engine = SteeredEngine()
    engine.failing["a"] = "its server is down"
    async with listening() as (peer, port), serving(settings_for(models=models, coordinator_port=port), engine) as (running, stub):
        with pytest.raises(AioRpcError, match="its server is down"):
            await stub.LoadModel(worker_pb2.WorkerLoadModelRequest(model="a"), timeout=DEADLINE_S)
        await peer.until_reported(lambda report: [each.failed_loads for each in report.failing] == [1])
        await running.reload()
        sequence = peer.streams[-1].reports[-1].sequence
        await peer.until_reported(lambda report: report.sequence >= sequence and not report.failing)
