"""Real sidecars on loopback, all in this process, and workers that speak `Publish` as a real one does.

Waiting is done on the sidecars' own streams, never by sleeping, and every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from grpc import aio

from roost.gossip.app import RunningSidecar, sidecar
from roost.gossip.settings import GossipSettings
from roost.service.channels import open_channel
from roost.service.tls import TlsFiles
from roost.v1 import coordinator_pb2, coordinator_pb2_grpc, gossip_pb2, gossip_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc, state_pb2

DEADLINE_S = 15.0
State = scheduler_pb2.GetClusterStateResponse
Members = gossip_pb2.GetMembersResponse


def report(
    node_id: str, *, ready: Iterable[str] = (), pinned: Iterable[str] = (), models: Iterable[str] = (), **fields: object
) -> state_pb2.WorkerLoadReport:
    """A full report of a worker with 1,000 bytes for models; `models` is its catalogue, `fields` are those of the wire."""
    resident = [state_pb2.ModelStatus(name=name, phase=state_pb2.MODEL_PHASE_READY, size_bytes=100) for name in ready]
    resident += [state_pb2.ModelStatus(name=name, phase=state_pb2.MODEL_PHASE_READY, size_bytes=100, pinned=True) for name in pinned]
    defaults: dict[str, object] = {"address": "127.0.0.1:8001", "slots": 4, "memory_capacity_bytes": 1000}
    made = state_pb2.WorkerLoadReport(node_id=node_id, models=resident, **{**defaults, **fields})  # type: ignore[arg-type]
    if models:
        entries = [state_pb2.CatalogueModel(name=name, engine="simulated", size_bytes=100) for name in sorted(models)]
        made.catalogue.CopyFrom(state_pb2.Catalogue(models=entries))
    return made


class FakeWorker:
    """One life of a worker whose first report was accepted."""

    def __init__(self, member: Member, epoch: int) -> None:
        self._member = member
        self._epoch = epoch
        self._sequence = itertools.count(1)
        self.call = member.gossip.Publish(timeout=60)

    async def report(self, **fields: object) -> None:
        numbered = {"epoch": self._epoch, "sequence": next(self._sequence), **fields}
        await self.call.write(gossip_pb2.PublishRequest(report=report(self._member.node_id, **numbered)))  # type: ignore[arg-type]

    async def welcomed(self) -> gossip_pb2.PublishResponse:
        answer = await self.call.read()
        assert isinstance(answer, gossip_pb2.PublishResponse), f"refused: {await self.call.code()} {await self.call.details()}"
        return answer

    async def command(self) -> coordinator_pb2.Command:
        """The next command."""
        return (await self.welcomed()).command

    async def answer(self, command: coordinator_pb2.Command, **fields: object) -> None:
        result = coordinator_pb2.CommandResult(command_id=command.command_id, **fields)  # type: ignore[arg-type]
        await self.call.write(gossip_pb2.PublishRequest(result=result))

    async def obey(self, **unfinished: int) -> coordinator_pb2.Command:
        """Does the next command, and reports what came of it."""
        command = await self.command()
        if command.HasField("load_model"):
            await self.report(ready=[command.load_model.model])
        else:
            await self.report(draining=command.HasField("drain") and not command.drain.resume)
        await self.answer(command, elapsed_s=0.25, **unfinished)
        return command

    def break_off(self) -> None:
        """The stream breaks, as when the process is killed."""
        self.call.cancel()


class Member:
    """A running sidecar and stubs to it."""

    def __init__(self, running: RunningSidecar, channel: aio.Channel, life: Life) -> None:
        self.running = running
        self.node_id = running.node_id
        self.seed = f"127.0.0.1:{running.port}"
        self.grpc = f"127.0.0.1:{running.grpc_port}"
        self._life = life
        self.scheduler = scheduler_pb2_grpc.SchedulerStub(channel)
        self.gossip = gossip_pb2_grpc.GossipStub(channel)
        self.coordinator = coordinator_pb2_grpc.CoordinatorStub(channel)

    def begin_to_stop(self) -> None:
        self._life.begin_to_stop()

    async def stop(self) -> None:
        """Stops it, as SIGTERM does."""
        await self._life.stop()

    @contextlib.asynccontextmanager
    async def worker(self, *, epoch: int = 1, models: Iterable[str] = ("sim-a", "sim-b"), **fields: object) -> AsyncIterator[FakeWorker]:
        worker = FakeWorker(self, epoch)
        await worker.report(models=models, **fields)
        await worker.welcomed()
        try:
            yield worker
        finally:
            worker.break_off()

    async def schedule(self, model: str = "sim-a", **fields: object) -> scheduler_pb2.ScheduleResponse:
        request = scheduler_pb2.ScheduleRequest(model_required=model, **fields)  # type: ignore[arg-type]
        return await self.scheduler.Schedule(request, timeout=DEADLINE_S)

    async def state(self) -> State:
        return await self.scheduler.GetClusterState(scheduler_pb2.GetClusterStateRequest(), timeout=DEADLINE_S)

    async def members(self) -> dict[str, str]:
        """Status by name."""
        return statuses(await self.gossip.GetMembers(gossip_pb2.GetMembersRequest(), timeout=DEADLINE_S))

    async def await_state(self, holds: Callable[[State], bool]) -> State:
        """The first state for which `holds`."""
        last = State()
        call = self.scheduler.WatchClusterState(scheduler_pb2.WatchClusterStateRequest(interval_s=0.05), timeout=DEADLINE_S)
        try:
            async for answer in call:
                last = answer.state
                if holds(last):
                    return last
        except aio.AioRpcError as error:
            raise AssertionError(f"the state did not come to hold ({error.code()}); last was:\n{last}") from error
        finally:
            call.cancel()
        raise AssertionError(f"the watch ended; last was:\n{last}")

    async def await_members(self, **wanted: str) -> Members:
        """The first members with those statuses; `worker_2` stands for worker-2."""
        expected = {name.replace("_", "-"): status for name, status in wanted.items()}
        last = Members()
        call = self.gossip.WatchMembers(gossip_pb2.WatchMembersRequest(interval_s=0.05), timeout=DEADLINE_S)
        try:
            async for answer in call:
                last = answer.state
                if expected.items() <= statuses(last).items():
                    return last
        except aio.AioRpcError as error:
            raise AssertionError(f"the members did not come to be {expected} ({error.code()}); last were:\n{last}") from error
        finally:
            call.cancel()
        raise AssertionError(f"the watch ended; last was:\n{last}")

    async def await_live(self, *node_ids: str) -> State:
        return await self.await_state(lambda state: set(node_ids) <= live(state))

    def count(self, name: str) -> int:
        """A counter of the node or of its driver."""
        return self.running.driver.node.counters[name] + self.running.driver.counters[name]


def statuses(members: Members) -> dict[str, str]:
    return {each.node_id: gossip_pb2.MemberStatus.Name(each.status).removeprefix("MEMBER_STATUS_").lower() for each in members.members}


def live(state: State) -> set[str]:
    return {worker.report.node_id for worker in state.workers if worker.liveness == scheduler_pb2.LIVENESS_LIVE}


def ready_on(state: State, model: str) -> list[str]:
    return [name for view in state.models if view.model.name == model for name in view.ready_on]


def liveness(state: State, node_id: str) -> str:
    """`live`, `suspect`, `dead`, or `absent`."""
    for worker in state.workers:
        if worker.report.node_id == node_id:
            return scheduler_pb2.Liveness.Name(worker.liveness).removeprefix("LIVENESS_").lower()
    return "absent"


class Life:
    """A sidecar in a task of its own, so that several can say goodbye at once."""

    def __init__(self, settings: GossipSettings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self.started: asyncio.Future[RunningSidecar] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with sidecar(self._settings) as made:
            self.started.set_result(made)
            await self._stop.wait()

    async def start(self) -> RunningSidecar:
        self._task.add_done_callback(lambda _: self.started.cancel())
        try:
            return await self.started
        except asyncio.CancelledError:
            await self._task  # it ended before it had started: say why
            raise

    def begin_to_stop(self) -> None:
        self._stop.set()

    async def stop(self) -> None:
        """Stops it, as SIGTERM does. Raises what it failed with."""
        self._stop.set()
        await self._task


@contextlib.asynccontextmanager
async def running(node_id: str, *others: Member, **settings: object) -> AsyncIterator[Member]:
    """A sidecar that joins `others`."""
    defaults = {"port": 0, "grpc_port": 0, "metrics_port": 0, "profile": "serving", "seeds": ",".join(other.seed for other in others)}
    life = Life(GossipSettings(node_id=node_id, **{**defaults, **settings}))  # type: ignore[arg-type]
    try:
        made = await life.start()
        authority = settings.get("peer_tls_authority")
        tls = TlsFiles(authority=authority) if isinstance(authority, Path) else None
        async with open_channel(f"127.0.0.1:{made.grpc_port}", tls=tls, has_retries=False) as channel:
            yield Member(made, channel, life)
    finally:
        await life.stop()


@contextlib.asynccontextmanager
async def cluster(size: int, **settings: object) -> AsyncIterator[list[Member]]:
    """`size` sidecars that know each other, worker-1, worker-2, ..., none of which has a worker yet."""
    async with contextlib.AsyncExitStack() as stack:
        members: list[Member] = []
        for number in range(1, size + 1):
            members.append(await stack.enter_async_context(running(f"worker-{number}", *members[:1], **settings)))
        wanted = {f"worker_{number}": "alive" for number in range(1, size + 1)}
        for member in members:
            await member.await_members(**wanted)
        yield members
        for member in members:
            member.begin_to_stop()
