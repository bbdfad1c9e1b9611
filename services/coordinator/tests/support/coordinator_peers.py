"""Peers of a coordinator for its tests: a running one, and a worker that speaks `Connect` as a real one does.

Waiting is done on the coordinator's own streams, never by sleeping, and every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable

import grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from roost.coordinator.app import RunningCoordinator, coordinator
from roost.coordinator.settings import CoordinatorSettings
from roost.v1 import coordinator_pb2, coordinator_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc, state_pb2

DEADLINE_S = 10.0
State = scheduler_pb2.GetClusterStateResponse
ConnectCall = aio.StreamStreamCall[coordinator_pb2.ConnectRequest, coordinator_pb2.ConnectResponse]


def catalogue(*names: str, **sizes: int) -> state_pb2.Catalogue:
    """Simulated models: `names` of 100 bytes each, `sizes` as said."""
    by_name = {**dict.fromkeys(names, 100), **sizes}
    return state_pb2.Catalogue(
        models=[state_pb2.CatalogueModel(name=name, engine="simulated", size_bytes=size) for name, size in sorted(by_name.items())]
    )


def report(
    node_id: str, *, ready: Iterable[str] = (), loading: Iterable[str] = (), pinned: Iterable[str] = (), **fields: object
) -> state_pb2.WorkerLoadReport:
    """A full report of a worker with 1,000 bytes for models; `fields` are those of the wire."""
    models = [state_pb2.ModelStatus(name=name, phase=state_pb2.MODEL_PHASE_READY, size_bytes=100) for name in ready]
    models += [state_pb2.ModelStatus(name=name, phase=state_pb2.MODEL_PHASE_READY, size_bytes=100, pinned=True) for name in pinned]
    models += [state_pb2.ModelStatus(name=name, phase=state_pb2.MODEL_PHASE_LOADING, size_bytes=100) for name in loading]
    defaults: dict[str, object] = {"address": f"127.0.0.1:{8000 + len(node_id)}", "slots": 4, "memory_capacity_bytes": 1000}
    return state_pb2.WorkerLoadReport(node_id=node_id, loaded_models=list(ready), models=models, **{**defaults, **fields})  # type: ignore[arg-type]


class FakeWorker:
    """One life of a worker: connected, welcomed, and reporting what the test tells it to."""

    def __init__(self, call: ConnectCall, node_id: str, epoch: int) -> None:
        self.call = call
        self.node_id = node_id
        self.epoch = epoch
        self.welcome = coordinator_pb2.Welcome()
        self._sequence = itertools.count(1)

    async def report(self, **fields: object) -> None:
        numbered = {"epoch": self.epoch, "sequence": next(self._sequence), **fields}
        await self.call.write(coordinator_pb2.ConnectRequest(report=report(self.node_id, **numbered)))  # type: ignore[arg-type]

    async def read(self) -> coordinator_pb2.ConnectResponse:
        answer = await self.call.read()
        assert isinstance(answer, coordinator_pb2.ConnectResponse), f"the stream ended: {await ended_with(self.call)}"
        return answer

    async def command(self) -> coordinator_pb2.Command:
        """The next command."""
        return (await self.read()).command

    async def answer(self, command: coordinator_pb2.Command, **fields: object) -> None:
        result = coordinator_pb2.CommandResult(command_id=command.command_id, **fields)  # type: ignore[arg-type]
        await self.call.write(coordinator_pb2.ConnectRequest(result=result))

    async def obey(self) -> coordinator_pb2.Command:
        """Does the next command, and reports the model it loaded."""
        command = await self.command()
        if command.HasField("load_model"):
            await self.report(ready=[command.load_model.model])
        await self.answer(command, elapsed_s=0.25)
        return command

    def break_off(self) -> None:
        """The stream breaks, as when the process is killed."""
        self.call.cancel()


class Cluster:
    """A coordinator on port 0 and stubs to it."""

    def __init__(self, running: RunningCoordinator, channel: aio.Channel, stack: contextlib.AsyncExitStack) -> None:
        self.running = running
        self._stack = stack
        self.channel = channel
        self.scheduler = scheduler_pb2_grpc.SchedulerStub(channel)
        self.coordinator = coordinator_pb2_grpc.CoordinatorStub(channel)

    async def stop(self) -> None:
        """Stops the coordinator, as SIGTERM does, while its peers are still there."""
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def worker(
        self, node_id: str, *, epoch: int = 1, models: Iterable[str] = ("sim-a", "sim-b"), **fields: object
    ) -> AsyncIterator[FakeWorker]:
        """A worker whose first report has arrived. Its catalogue is `models`."""
        worker = FakeWorker(self.coordinator.Connect(timeout=60), node_id, epoch)
        await worker.report(catalogue=catalogue(*models), **fields)
        worker.welcome = (await worker.read()).welcome
        try:
            yield worker
        finally:
            worker.break_off()

    async def schedule(self, model: str = "sim-a", **fields: object) -> scheduler_pb2.ScheduleResponse:
        request = scheduler_pb2.ScheduleRequest(model_required=model, **fields)  # type: ignore[arg-type]
        return await self.scheduler.Schedule(request, timeout=DEADLINE_S)

    async def state(self) -> State:
        return await self.scheduler.GetClusterState(scheduler_pb2.GetClusterStateRequest(), timeout=DEADLINE_S)

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

    async def await_liveness(self, node_id: str, wanted: str) -> State:
        return await self.await_state(lambda state: liveness(state, node_id) == wanted)


@contextlib.asynccontextmanager
async def running_cluster(**settings: object) -> AsyncIterator[Cluster]:
    """A coordinator in this process, on ports of its own."""
    chosen = CoordinatorSettings(**{"host": "127.0.0.1", "port": 0, "metrics_port": 0, **settings})  # type: ignore[arg-type]
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(coordinator(chosen))
        async with aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            yield Cluster(running, channel, stack)


def liveness(state: State, node_id: str) -> str:
    """`LIVE`, `SUSPECT`, `DEAD`, or `absent`."""
    for worker in state.workers:
        if worker.report.node_id == node_id:
            return scheduler_pb2.Liveness.Name(worker.liveness).removeprefix("LIVENESS_")
    return "absent"


class Refused:
    """A refusal as a client sees it: status code, ErrorInfo, and the other details by type."""

    def __init__(self, error: aio.AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        self.reason = ""
        self.field = ""
        self.retry_after_s = 0.0
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it reads
        for detail in status.details if status is not None else ():
            self._read(detail)

    def _read(self, detail: object) -> None:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):  # type: ignore[attr-defined]  # google.protobuf.Any
            self.reason = info.reason
        elif detail.Unpack(bad):  # type: ignore[attr-defined]
            self.field = bad.field_violations[0].field
        elif detail.Unpack(retry):  # type: ignore[attr-defined]
            self.retry_after_s = float(json_format.MessageToDict(retry)["retryDelay"].removesuffix("s"))

    def __repr__(self) -> str:
        return f"<Refused {self.code.name} {self.reason} {self.field!r} {self.message!r}>"


@contextlib.asynccontextmanager
async def refusal() -> AsyncIterator[list[Refused]]:
    """The block must be refused; the list then holds how."""
    caught: list[Refused] = []
    try:
        yield caught
    except aio.AioRpcError as error:
        caught.append(Refused(error))
    assert caught, "nothing was refused"


async def ended_with(call: ConnectCall) -> tuple[grpc.StatusCode, str]:
    """How the stream ended."""
    return await call.code(), await call.details() or ""
