"""The worker's stream to its gossip sidecar, alone and beside a coordinator's."""

from __future__ import annotations

from pathlib import Path

import pytest
from steered_engine import SteeredEngine
from tiny_coordinator import listening
from tiny_sidecar import sidecar_listening
from worker_world import DEADLINE_S, answers_of, serving, settings_for

from roost.service.settings import BadSettings, parse_settings
from roost.v1 import coordinator_pb2, worker_pb2, worker_pb2_grpc
from roost.worker.settings import WorkerSettings

MODELS = '[models.a]\nengine = "simulated"\nsource = "published"\nsize = "40MB"\n'


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(MODELS)
    return path


async def generate(stub: worker_pb2_grpc.WorkerAsyncStub, decision_id: str) -> None:
    request = worker_pb2.GenerateRequest(model="a", prompt="x", max_tokens=1, decision_id=decision_id)
    assert len(await answers_of(stub.Generate(request, timeout=DEADLINE_S))) == 3


async def test_a_worker_without_a_coordinator_reports_to_its_sidecar_and_says_goodbye(models: Path) -> None:
    async with sidecar_listening() as (sidecar, address):
        settings = settings_for(models=models, coordinator_host="", sidecar=address)
        async with serving(settings, SteeredEngine()) as (running, stub):
            assert len(running.links) == 1
            await generate(stub, "d-1")
            await sidecar.until(lambda: sidecar.outcomes() == ["d-1"])
            assert [model.name for model in sidecar.reports[0].catalogue.models] == ["a"]
        await sidecar.until(lambda: sidecar.is_ended)
        assert sidecar.reports[-1].draining


async def test_a_sidecar_commands_its_worker_as_a_coordinator_does(models: Path) -> None:
    async with sidecar_listening() as (sidecar, address):
        settings = settings_for(models=models, coordinator_host="", sidecar=address)
        async with serving(settings, SteeredEngine()):
            await sidecar.until(lambda: bool(sidecar.reports))
            loaded = await sidecar.command(load_model=coordinator_pb2.LoadModelCommand(model="a", pin=True))
            assert (loaded.code, loaded.HasField("unfinished")) == (0, False)
            await sidecar.until(lambda: [(each.name, each.pinned) for each in sidecar.reports[-1].models] == [("a", True)])
            refused = await sidecar.command(load_model=coordinator_pb2.LoadModelCommand(model="b"))
            assert (refused.code, refused.reason) == (5, "UNKNOWN_MODEL")
            assert (await sidecar.command(unload_model=coordinator_pb2.UnloadModelCommand(model="a"))).code == 0
            drained = await sidecar.command(drain=coordinator_pb2.DrainCommand())
            assert (drained.code, drained.HasField("unfinished"), drained.unfinished) == (0, True, 0)
            await sidecar.until(lambda: sidecar.reports[-1].draining)
            assert (await sidecar.command(drain=coordinator_pb2.DrainCommand(resume=True))).code == 0
            assert (await sidecar.command()).reason == "INVALID_FIELD"


async def test_coordinator_and_sidecar_both_hear_of_every_arrival(models: Path) -> None:
    async with listening() as (coordinator, port), sidecar_listening() as (sidecar, address):
        settings = settings_for(models=models, coordinator_port=port, sidecar=address)
        async with serving(settings, SteeredEngine()) as (_, stub):
            await coordinator.until_reported(lambda report: report.sequence >= 1)
            await sidecar.until(lambda: bool(sidecar.reports))
            for decision_id in ("d-1", "d-2"):
                await generate(stub, decision_id)
            await sidecar.until(lambda: sidecar.outcomes() == ["d-1", "d-2"])
            await coordinator.until(lambda: coordinator.streams[0].outcomes() == ["d-1", "d-2"])


async def test_a_worker_serves_on_while_its_sidecar_is_away_and_tells_the_next_one_everything(models: Path) -> None:
    async with sidecar_listening() as (first, address):
        world = serving(settings_for(models=models, coordinator_host="", sidecar=address), SteeredEngine())
        _, stub = await world.__aenter__()
        await first.until(lambda: bool(first.reports))
    try:
        await generate(stub, "while away")
        async with sidecar_listening(int(address.rpartition(":")[2])) as (second, _):
            await second.until(lambda: second.outcomes() == ["while away"])
            assert second.reports[0].HasField("catalogue")
    finally:
        await world.__aexit__(None, None, None)


async def test_a_worker_may_have_neither(models: Path) -> None:
    async with serving(settings_for(models=models, coordinator_host=""), SteeredEngine()) as (running, stub):
        assert running.links == ()
        await generate(stub, "")


@pytest.mark.parametrize("sidecar", ["nowhere", "a:b", "http://a:1", "::1:7846"])
def test_a_sidecars_address_is_checked(sidecar: str) -> None:
    with pytest.raises(BadSettings, match="--sidecar"):
        parse_settings(WorkerSettings, {"sidecar": sidecar})
