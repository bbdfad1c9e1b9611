"""What operators ask of a cluster of sidecars: through any of them, on any worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from pathlib import Path

import grpc
import pytest
from certificates import NEEDS_OPENSSL, make_certificates
from grpc import aio

from roost.cluster.errors import RoostError, WorkerUnreachable
from roost.gossip.reach import OtherSidecars, SidecarReach
from roost.gossip.record_format import grpc_address
from roost.service.errors import from_rpc_error
from roost.service.operating.commands import Drain
from roost.service.operating.streams import CommandIds
from roost.service.startup import CannotStart
from roost.service.tls import TlsFiles
from roost.v1 import coordinator_pb2, gossip_pb2, scheduler_pb2

from .sidecars import DEADLINE_S, Member, cluster, liveness, ready_on, running

Code = grpc.StatusCode


class NobodyTold:
    def keys_of(self, name: str) -> Mapping[str, bytes]:
        return {}


async def load(member: Member, model: str = "sim-a", **fields: object) -> list[tuple[str, bool]]:
    request = coordinator_pb2.LoadModelRequest(model=model, **fields)  # type: ignore[arg-type]
    answer = await member.coordinator.LoadModel(request, timeout=DEADLINE_S)
    return [(outcome.worker_id, outcome.unchanged) for outcome in answer.outcomes]


async def unload(member: Member, model: str = "sim-a", worker_id: str = "", *, when_free: bool = False) -> list[tuple[str, bool]]:
    request = coordinator_pb2.UnloadModelRequest(model=model, worker_id=worker_id, when_free=when_free)
    answer = await member.coordinator.UnloadModel(request, timeout=DEADLINE_S)
    return [(outcome.worker_id, outcome.unchanged) for outcome in answer.outcomes]


async def unpin(member: Member, model: str = "sim-a") -> list[tuple[str, bool]]:
    answer = await member.coordinator.UnpinModel(coordinator_pb2.UnpinModelRequest(model=model), timeout=DEADLINE_S)
    return [(outcome.worker_id, outcome.unchanged) for outcome in answer.outcomes]


async def drain(member: Member, worker_id: str, *, resume: bool = False) -> int:
    request = coordinator_pb2.DrainWorkerRequest(worker_id=worker_id, resume=resume)
    return (await member.coordinator.DrainWorker(request, timeout=DEADLINE_S)).unfinished


async def refused(call: Awaitable[object]) -> tuple[Code, RoostError]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code(), from_rpc_error(caught.value)


@pytest.mark.parametrize("asked", [0, 1, 2])
async def test_a_worker_loads_unloads_and_drains_whichever_sidecar_is_asked(asked: int) -> None:
    async with cluster(3) as members, members[0].worker() as worker, asyncio.TaskGroup() as tasks:
        member = members[asked]
        await member.await_live("worker-1")

        loading = tasks.create_task(load(member, worker_id="worker-1"))
        command = await worker.obey()
        assert (command.load_model.model, command.load_model.pin) == ("sim-a", False)
        assert await loading == [("worker-1", False)]

        draining = tasks.create_task(drain(member, "worker-1"))
        assert not (await worker.obey(unfinished=7)).drain.resume
        assert await draining == 7
        resuming = tasks.create_task(drain(member, "worker-1", resume=True))
        assert (await worker.obey(unfinished=7)).drain.resume
        assert await resuming == 7

        await worker.report(ready=["sim-a"])
        await member.await_state(lambda state: ready_on(state, "sim-a") == ["worker-1"])
        unloading = tasks.create_task(unload(member, worker_id="worker-1"))
        assert (await worker.obey()).unload_model.model == "sim-a"
        assert await unloading == [("worker-1", False)]


@pytest.mark.parametrize("asked", [0, 1])
async def test_a_caller_that_goes_away_calls_its_load_off_whichever_sidecar_it_asked(asked: int) -> None:
    async with cluster(2) as members, members[0].worker() as worker:
        await members[asked].await_live("worker-1")
        request = coordinator_pb2.LoadModelRequest(model="sim-a", worker_id="worker-1")
        call = members[asked].coordinator.LoadModel(request, timeout=DEADLINE_S)
        loading = asyncio.ensure_future(call)
        command = await worker.command()
        call.cancel()
        assert (await worker.command()).cancel.command_id == command.command_id
        await asyncio.wait({loading})


@pytest.mark.parametrize("asked", [0, 1])
async def test_unpinning_and_unloading_when_free_work_through_any_sidecar(asked: int) -> None:
    async with cluster(2) as members, members[0].worker(pinned=["sim-a"]) as worker, asyncio.TaskGroup() as tasks:
        member = members[asked]
        await member.await_state(lambda state: ready_on(state, "sim-a") == ["worker-1"])
        unpinning = tasks.create_task(unpin(member))
        assert (await worker.obey()).unpin_model.model == "sim-a"
        assert await unpinning == [("worker-1", False)]
        await worker.report(ready=["sim-a"])
        await member.await_state(lambda state: ready_on(state, "sim-a") == ["worker-1"])
        unloading = tasks.create_task(unload(member, when_free=True))
        assert (await worker.obey()).unload_model.when_free
        assert await unloading == [("worker-1", False)]


async def test_replicas_are_loaded_on_own_and_other_workers_and_what_was_done_is_seen_at_once() -> None:
    async with (
        cluster(3) as members,
        members[0].worker() as first,
        members[1].worker() as second,
        members[2].worker(queue_depth=9),
        asyncio.TaskGroup() as tasks,
    ):
        await members[0].await_state(lambda state: any(view.report.queue_depth == 9 for view in state.workers) and len(state.workers) == 3)
        loading = tasks.create_task(load(members[0], replicas=2))
        await asyncio.gather(first.obey(), second.obey())
        assert await loading == [("worker-1", False), ("worker-2", False)]
        assert ready_on(await members[0].state(), "sim-a") == ["worker-1", "worker-2"]  # no waiting: whoever asks next finds it
        unloading = tasks.create_task(unload(members[0]))
        await asyncio.gather(first.obey(), second.obey())
        assert await unloading == [("worker-1", False), ("worker-2", False)]
        assert ready_on(await members[0].state(), "sim-a") == []


async def test_a_workers_refusal_is_passed_on_by_both_sidecars() -> None:
    async with cluster(2) as (one, other), other.worker() as worker, asyncio.TaskGroup() as tasks:
        await one.await_live("worker-2")
        loading = tasks.create_task(refused(load(one, worker_id="worker-2", pin=True)))
        command = await worker.command()
        assert (command.load_model.model, command.load_model.pin) == ("sim-a", True)
        await worker.answer(command, code=9, message="sim-a could not be loaded: bad magic", reason="MODEL_LOAD_FAILED")
        code, refusal = await loading
        assert (code, refusal.reason) == (Code.FAILED_PRECONDITION, "COMMAND_FAILED")
        assert str(refusal) == "worker-2: sim-a could not be loaded: bad magic"


async def test_a_sidecar_that_cannot_be_reached_is_named() -> None:
    async with cluster(1) as (one,), running("worker-2", one, grpc_advertise="127.0.0.1:9") as other, other.worker():
        await one.await_live("worker-2")
        code, refusal = await refused(load(one, worker_id="worker-2"))
        assert (code, refusal.reason) == (Code.UNAVAILABLE, "WORKER_UNREACHABLE")
        assert "worker-2 cannot be reached: its sidecar at 127.0.0.1:9 did not carry it out" in str(refusal)


async def test_a_worker_that_has_left_its_sidecar_is_unreachable_from_any() -> None:
    async with cluster(2) as (one, other), other.worker() as worker:
        await one.await_live("worker-2")
        worker.break_off()
        for member in (one, other):
            await member.await_state(lambda state: liveness(state, "worker-2") == "suspect")
            code, refusal = await refused(drain(member, "worker-2"))
            assert (code, refusal.reason) == (Code.UNAVAILABLE, "WORKER_UNREACHABLE")
            assert "holds no stream to its sidecar" in str(refusal)


async def test_a_worker_that_does_not_answer_is_unreachable_in_time() -> None:
    async with cluster(2, command_timeout_s=0.2) as (one, other), other.worker():
        await one.await_live("worker-2")
        code, refusal = await refused(one.coordinator.LoadModel(coordinator_pb2.LoadModelRequest(model="sim-a", worker_id="worker-2")))
        assert (code, refusal.reason) == (Code.UNAVAILABLE, "WORKER_UNREACHABLE")
        assert "did not answer load_model" in str(refusal)


async def test_a_command_for_another_worker_is_not_passed_on() -> None:
    async with cluster(2) as (one, other), other.worker():
        await one.await_live("worker-2")
        command = coordinator_pb2.Command(command_id="c", drain=coordinator_pb2.DrainCommand())
        request = gossip_pb2.CommandWorkerRequest(worker_id="worker-2", command=command)
        code, refusal = await refused(one.gossip.CommandWorker(request, timeout=DEADLINE_S))
        assert (code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")
        assert "must be worker-1, the worker of this sidecar (got worker-2)" in str(refusal)


async def test_a_command_that_says_nothing_is_refused() -> None:
    async with running("worker-1") as member, member.worker():
        request = gossip_pb2.CommandWorkerRequest(worker_id="worker-1", command=coordinator_pb2.Command(command_id="c"))
        code, refusal = await refused(member.gossip.CommandWorker(request, timeout=DEADLINE_S))
        assert (code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"replicas": 2, "worker_id": "worker-1"}, Code.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"model": "sim-aa"}, Code.NOT_FOUND, "UNKNOWN_MODEL"),
        ({"worker_id": "worker-9"}, Code.NOT_FOUND, "UNKNOWN_WORKER"),
        ({"replicas": 3}, Code.UNAVAILABLE, "NO_WORKERS"),
    ],
)
async def test_a_wish_that_cannot_be_met_is_refused_as_by_a_coordinator(fields: dict[str, object], code: Code, reason: str) -> None:
    async with running("worker-1") as member, member.worker(models=["sim-a"]):
        answer, refusal = await refused(load(member, **{"model": "sim-a", **fields}))  # type: ignore[arg-type]
        assert (answer, refusal.reason) == (code, reason)


async def test_what_workers_ask_of_a_coordinator_is_refused_with_the_fix() -> None:
    async with running("worker-1") as member:
        code, refusal = await refused(member.coordinator.ReportLoad(coordinator_pb2.ReportLoadRequest(), timeout=DEADLINE_S))
        assert (code, refusal.reason) == (Code.UNIMPLEMENTED, "NOT_SERVED_HERE")
        assert "--sidecar HOST:PORT" in str(refusal)
        call = member.coordinator.Connect(timeout=DEADLINE_S)
        code, refusal = await refused(call.read())
        assert (code, refusal.reason) == (Code.UNIMPLEMENTED, "NOT_SERVED_HERE")


async def test_a_drained_worker_gets_nothing_new_from_the_sidecar_that_was_asked() -> None:
    async with cluster(2) as (one, other), other.worker(ready=["sim-a"]) as worker, asyncio.TaskGroup() as tasks:
        await one.await_live("worker-2")
        draining = tasks.create_task(drain(one, "worker-2"))
        await worker.obey()
        await draining
        with pytest.raises(aio.AioRpcError) as caught:
            await one.scheduler.Schedule(scheduler_pb2.ScheduleRequest(model_required="sim-a"), timeout=DEADLINE_S)
        assert from_rpc_error(caught.value).reason == "NO_WORKERS"


@NEEDS_OPENSSL
async def test_sidecars_that_speak_tls_reach_each_other_by_it(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    files = {
        "tls_certificate": tmp_path / "server.pem",
        "tls_key": tmp_path / "server.key",
        "peer_tls_authority": tmp_path / "authority.pem",
    }
    async with cluster(2, **files) as (one, other), other.worker() as worker, asyncio.TaskGroup() as tasks:
        await one.await_live("worker-2")
        loading = tasks.create_task(load(one, worker_id="worker-2"))
        await worker.obey()
        assert await loading == [("worker-2", False)]


@NEEDS_OPENSSL
async def test_a_sidecar_whose_certificate_is_not_trusted_is_named(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    files = {"tls_certificate": tmp_path / "server.pem", "tls_key": tmp_path / "server.key"}
    async with cluster(1) as (one,), running("worker-2", one, **files):
        await one.await_members(worker_2="alive")
        await one.await_state(lambda _: bool(grpc_address(one.running.driver.node.keys_of("worker-2"))))
        own, others = one.running.worker, OtherSidecars(one.running.driver.node, None)
        with pytest.raises(WorkerUnreachable, match=r"its sidecar at 127\.0\.0\.1:\d+ did not carry it out"):
            await SidecarReach(own, others, one.running.plane, ids=CommandIds("t")).command("worker-2", Drain(), 5.0)


async def test_a_file_for_tls_to_the_others_that_cannot_be_read_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="no-such"):
        OtherSidecars(NobodyTold(), TlsFiles(authority=tmp_path / "no-such.pem"))
