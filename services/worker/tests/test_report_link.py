"""The worker's stream, against a real peer on loopback."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from steered_engine import SteeredEngine
from tiny_coordinator import listening
from tiny_sidecar import sidecar_listening
from worker_world import DEADLINE_S, answers_of, serving, settings_for

from roost.service.report_changes import ReportReader
from roost.v1 import coordinator_pb2, state_pb2, worker_pb2, worker_pb2_grpc
from roost.worker.app import worker

MODELS = "".join(f'[models.{name}]\nengine = "simulated"\nsource = "published"\nsize = "40MB"\n' for name in ("a", "b"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(MODELS)
    return path


def request(decision_id: str = "", max_tokens: int = 1, model: str = "a") -> worker_pb2.GenerateRequest:
    return worker_pb2.GenerateRequest(model=model, prompt="x", max_tokens=max_tokens, decision_id=decision_id)


async def test_the_first_report_is_full_and_has_the_catalogue(models: Path) -> None:
    async with listening() as (peer, port), serving(settings_for(models=models, coordinator_port=port), SteeredEngine()) as (running, _):
        await peer.until(lambda: bool(peer.streams) and bool(peer.streams[0].reports))
        report = peer.streams[0].reports[0]
        assert (report.node_id, report.address, report.sequence) == ("worker-1", running.address, 1)
        assert [model.name for model in report.catalogue.models] == ["a", "b"]
        assert report.epoch > 1_600_000_000 * 10**9


async def test_a_change_is_reported_at_once_and_silence_after_the_interval(models: Path) -> None:
    settings = settings_for(models=models, report_interval_s=0.2)
    async with listening() as (peer, port):
        async with serving(settings.model_copy(update={"coordinator_port": port}), SteeredEngine()) as (_, stub):
            await peer.until_reported(lambda report: report.sequence >= 3)
            call = stub.Generate(request("decision-1"), timeout=DEADLINE_S)
            assert len(await answers_of(call)) == 3
            await peer.until_reported(lambda report: list(report.loaded_models) == ["a"] and report.busy_slots == 0)
            assert peer.streams[0].outcomes() == ["decision-1"]
        sequences = [report.sequence for report in peer.streams[0].reports]
        assert sequences == sorted(set(sequences))
        assert not any(report.HasField("catalogue") for report in peer.streams[0].reports[1:])


async def test_many_changes_are_coalesced_to_twenty_reports_a_second(models: Path) -> None:
    async with listening() as (peer, port), serving(settings_for(models=models, coordinator_port=port), SteeredEngine()) as (_, stub):
        await peer.until_reported(lambda report: report.sequence >= 1)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(60):
            assert len(await answers_of(stub.Generate(request(f"decision-{number}"), timeout=DEADLINE_S))) == 3
        await peer.until(lambda: len(peer.streams[0].outcomes()) == 60)
        took_s = loop.time() - started
        assert len(peer.streams[0].reports) <= took_s * 20 + 3
        assert peer.streams[0].outcomes() == [f"decision-{number}" for number in range(60)]


async def test_the_link_comes_back_with_a_full_report_and_what_may_have_been_lost(models: Path) -> None:
    async with listening() as (first, port):
        settings = settings_for(models=models, coordinator_port=port)
        world = serving(settings, SteeredEngine())
        running, stub = await world.__aenter__()
        await first.until_reported(lambda report: report.sequence >= 1)
        assert len(await answers_of(stub.Generate(request("before"), timeout=DEADLINE_S))) == 3
        await first.until(lambda: first.streams[0].outcomes() == ["before"])
    try:
        # While nobody listens the worker serves on.
        assert len(await answers_of(stub.Generate(request("while away"), timeout=DEADLINE_S))) == 3
        async with listening(port) as (second, _):
            await second.until(lambda: bool(second.streams) and bool(second.streams[-1].reports))
            report = second.streams[-1].reports[0]
            assert [model.name for model in report.catalogue.models] == ["a", "b"]
            assert [outcome.decision_id for outcome in report.outcomes] == ["before", "while away"]
            assert report.epoch == running.reporter.state().epoch
            assert list(report.loaded_models) == ["a"]
            await world.__aexit__(None, None, None)
    except BaseException:
        await world.__aexit__(None, None, None)
        raise


async def test_a_peer_that_takes_changes_is_told_what_has_changed_after_a_full_report(models: Path) -> None:
    async with listening() as (peer, port):
        peer.takes_changes = True
        async with serving(settings_for(models=models, coordinator_port=port), SteeredEngine()) as (running, stub):
            await peer.until_reported(lambda report: report.sequence >= 1)
            for model in ("a", "b", "a"):
                assert len(await answers_of(stub.Generate(request(model=model), timeout=DEADLINE_S))) == 3
            await peer.until_reported(lambda report: not report.busy_slots and report.cache.hits == 1)
            reports, reader = list(peer.streams[-1].reports), ReportReader()
            assert [report.base_sequence for report in reports] == [0, *(report.sequence for report in reports[:-1])]
            known = [reader.read(report) for report in reports][-1]
            assert known.models == running.reporter.state().models
            assert known.timings == running.reporter.state().timings


async def test_a_peer_that_does_not_say_so_gets_full_reports(models: Path) -> None:
    async with listening() as (peer, port), serving(settings_for(models=models, coordinator_port=port), SteeredEngine()) as (_, stub):
        await peer.until_reported(lambda report: report.sequence >= 1)
        assert len(await answers_of(stub.Generate(request(), timeout=DEADLINE_S))) == 3
        await peer.until_reported(lambda report: list(report.loaded_models) == ["a"])
        assert not any(report.base_sequence for report in peer.streams[-1].reports)


async def test_commands_are_carried_out_and_answered(models: Path) -> None:
    async with listening() as (peer, port), serving(settings_for(models=models, coordinator_port=port), SteeredEngine()) as (_, stub):
        await peer.until_reported(lambda report: report.sequence >= 1)
        load = await peer.command(load_model=coordinator_pb2.LoadModelCommand(model="a", pin=True))
        assert (load.code, load.message) == (0, "")
        report = await peer.until_reported(lambda report: list(report.loaded_models) == ["a"])
        assert report.models[0].pinned
        unload = await peer.command(unload_model=coordinator_pb2.UnloadModelCommand(model="a"))
        assert unload.code == 0
        await peer.until_reported(lambda report: not report.loaded_models)
        assert (await peer.command(drain=coordinator_pb2.DrainCommand())).code == 0
        await peer.until_reported(lambda report: report.draining)
        with pytest.raises(grpc.aio.AioRpcError, match="draining"):
            await answers_of(stub.Generate(request(), timeout=DEADLINE_S))
        assert (await peer.command(drain=coordinator_pb2.DrainCommand(resume=True))).code == 0
        await peer.until_reported(lambda report: not report.draining)


async def test_a_command_that_cannot_be_done_is_answered_with_why(models: Path) -> None:
    engine = SteeredEngine()
    engine.failing["b"] = "b.gguf is missing"
    async with listening() as (peer, port), serving(settings_for(models=models, coordinator_port=port), engine):
        await peer.until_reported(lambda report: report.sequence >= 1)
        unknown = await peer.command(load_model=coordinator_pb2.LoadModelCommand(model="aa"))
        assert (unknown.code, unknown.reason) == (grpc.StatusCode.NOT_FOUND.value[0], "UNKNOWN_MODEL")
        failed = await peer.command(load_model=coordinator_pb2.LoadModelCommand(model="b"))
        assert (failed.reason, "b.gguf is missing" in failed.message) == ("MODEL_LOAD_FAILED", True)
        assert (await peer.command()).reason == "INVALID_FIELD"
        assert (await peer.command(load_model=coordinator_pb2.LoadModelCommand(model=""))).reason == "INVALID_FIELD"


async def test_a_loading_model_is_reported_with_the_time_it_is_expected_to_take(models: Path) -> None:
    engine = SteeredEngine()
    engine.hold_loads()
    async with listening() as (peer, port), serving(settings_for(models=models, coordinator_port=port), engine) as (_, stub):
        call = stub.Generate(request(), timeout=DEADLINE_S)
        report = await peer.until_reported(lambda report: bool(report.models))
        (status,) = report.models
        assert (status.name, status.phase, status.queued) == ("a", state_pb2.MODEL_PHASE_LOADING, 1)
        assert 0 < status.ready_in_s <= 40 / 250
        assert report.queue_depth == 1
        assert report.queue_by_priority[0] == 1
        engine.let_loads()
        assert len(await answers_of(call)) == 3


async def test_stopping_says_draining_finishes_what_runs_and_then_ends_the_stream(models: Path) -> None:
    engine = SteeredEngine()
    engine.hold_tokens()
    async with listening() as (peer, port):
        world = worker(settings_for(models=models, coordinator_port=port), {"simulated": engine})
        running = await world.__aenter__()
        async with grpc.aio.insecure_channel(running.address) as channel:
            call = worker_pb2_grpc.WorkerStub(channel).Generate(request(), timeout=DEADLINE_S)
            reading = asyncio.ensure_future(answers_of(call))
            await peer.until_reported(lambda report: report.busy_slots == 1)
            stopping = asyncio.ensure_future(world.__aexit__(None, None, None))
            await peer.until_reported(lambda report: report.draining and report.busy_slots == 1)
            assert not peer.streams[0].is_over
            engine.let_tokens()
            assert [event.WhichOneof("event") for event in await reading] == ["accepted", "token", "completion"]
            await stopping
        last = peer.streams[0].reports[-1]
        assert (last.draining, last.busy_slots, last.queue_depth) == (True, 0, 0)
        assert (len(peer.streams), peer.streams[0].is_over) == (1, True)
    assert engine.is_closed


async def test_requests_that_outlast_the_drain_are_ended(models: Path) -> None:
    engine = SteeredEngine()
    engine.hold_tokens()
    async with listening() as (peer, port):
        settings = settings_for(models=models, coordinator_port=port, drain_timeout_s=0.05)
        async with serving(settings, engine) as (_, stub):
            reading = asyncio.ensure_future(answers_of(stub.Generate(request(), timeout=DEADLINE_S)))
            await peer.until_reported(lambda report: report.busy_slots == 1)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await reading
    assert engine.memory_mb == 0


async def test_a_worker_whose_clock_went_back_takes_a_later_epoch_than_the_one_it_is_told_of_and_connects_at_once(models: Path) -> None:
    async with listening() as (peer, port), sidecar_listening() as (sidecar, address):
        peer.living_epoch = time.time_ns() + 3600 * 10**9
        settings = settings_for(models=models, coordinator_port=port, sidecar=address)
        async with serving(settings, SteeredEngine()) as (running, _):
            report = await peer.until_reported(lambda report: report.epoch > peer.living_epoch)
            assert report.epoch == peer.living_epoch + 1
            assert len(peer.streams) == 2
            assert report.HasField("catalogue")
            # Its stream to the sidecar began under the earlier epoch, and a stream keeps its life: it is opened anew.
            await sidecar.until(lambda: sidecar.reports[-1].epoch == report.epoch)
            await sidecar.until(lambda: sidecar.reports[-1].sequence > 0 and all(link.is_connected for link in running.links))


async def test_a_worker_that_is_told_of_a_life_that_began_meanwhile_stays_refused(models: Path) -> None:
    async with listening() as (peer, port):
        settings = settings_for(models=models, coordinator_port=port)
        async with serving(settings, SteeredEngine()) as (running, _):
            await peer.until_reported(lambda report: report.sequence >= 1)
            peer.living_epoch = time.time_ns()
            peer.streams[-1].commands.put_nowait(None)  # the stream ends, and the later life has the name
            await peer.until(lambda: len(peer.streams) >= 4)
            assert {stream.reports[0].epoch for stream in peer.streams if stream.reports} == {running.reporter.epoch}
            assert running.reporter.epoch < peer.living_epoch
