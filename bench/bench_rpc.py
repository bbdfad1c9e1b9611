"""What a decision costs beside its RPC: Schedule against an echo on the same server. `python bench/bench_rpc.py [--json]`.

A child process serves the coordinator's Scheduler, with a view of 100 reporting workers that can carry the load (4 slots each, 50 ms a
request, 2 s a load), and beside it an echo that reads the same request and answers with a response of the same size, through the same
interceptors. This process calls both in short turns, so that
whatever else the machine does falls on both. A ratio is the median over the rounds of what Schedule reached in a turn divided by what the
echo reached in the turn beside it. Server CPU is what the child itself measured for each call, the client's share left out; its ratio says
what remains of the echo's rate where the server is the bottleneck, and moves less than the rates do when the machine is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import random
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Final, TypeAlias

import grpc
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import (
    MAX_OUTCOMES,
    CacheResult,
    CatalogueModel,
    DecisionOutcome,
    ModelStatus,
    ModelTiming,
    Phase,
    WorkerState,
)
from roost.coordinator.metrics import CoordinatorMetrics
from roost.coordinator.plane import CentralPlane
from roost.coordinator.worker_streams import WorkerStreams
from roost.placement.decider import Decider
from roost.placement.placer import Placer
from roost.placement.records import DecisionRecords
from roost.placement.terms import Terms
from roost.service.channels import open_channel
from roost.service.logs import configure, get_logger
from roost.service.metrics import GrpcMetrics
from roost.service.process import freeze_after_start
from roost.service.scheduler.desk import Desk
from roost.service.scheduler.servicer import SchedulerServicer
from roost.service.scheduler.shell import DeciderShell
from roost.service.server import ServiceBinding, rpc_server
from roost.service.streams import StopSignal
from roost.v1 import scheduler_pb2
from roost.v1.scheduler_pb2 import ScheduleRequest as Request
from roost.v1.scheduler_pb2 import ScheduleResponse as Response
from roost.v1.scheduler_pb2 import ScheduleStreamRequest as StreamRequest
from roost.v1.scheduler_pb2 import ScheduleStreamResponse as StreamResponse
from roost.v1.scheduler_pb2_grpc import add_SchedulerServicer_to_server

Handler: TypeAlias = "grpc.RpcMethodHandler[object, object]"
Context = grpc.aio.ServicerContext[object, object]

MODELS: Final = tuple(f"model-{number:02}" for number in range(20))
READY_EACH: Final = 3
TIMINGS: Final = MappingProxyType({name: ModelTiming(service_time_s=0.05, load_time_s=2.0) for name in MODELS})
REPORT_S: Final = 1.0  # as workers do
CONCURRENCIES: Final = (1, 32)
IN_FLIGHT: Final = 64  # requests of a stream that are not answered yet
ECHO: Final = "bench.Echo"
HEADINGS: Final = (
    "in flight",
    "echo/s",
    "Schedule/s",
    "ratio",
    "p50 µs: echo",
    "Schedule",
    "p99 µs: echo",
    "Schedule",
    "CPU µs: echo",
    "Schedule",
    "ratio",
)


def answer(request_id: str) -> Response:
    """As long as a real one."""
    return Response(
        worker_id="worker-42",
        action=scheduler_pb2.ACTION_SERVE,
        estimated_wait_time=0.25,
        reason="worker-42 has model-07 ready, 1 ahead in queue",
        worker_address="10.0.0.42:8001",
        view_age_s=0.5,
        decision_id="c18b0000000000-123456",
        plane=scheduler_pb2.PLANE_CENTRAL,
        request_id=request_id,
        policy="expected-wait",
    )


# --- the child: one server, two services ----------------------------------------------------------


def states(workers: int) -> list[WorkerState]:
    rng = random.Random(workers)
    return [
        WorkerState(
            f"worker-{number}",
            models={name: ModelStatus(name, Phase.READY, 10**9) for name in rng.sample(MODELS, READY_EACH)},
            timings=TIMINGS,
            address=f"10.0.0.{number % 250}:8001",
            slots=4,
            gpu_utilization=rng.random(),
            epoch=1,
            sequence=1,
        )
        for number in range(workers)
    ]


def _bytes_of(message: object) -> bytes:
    assert isinstance(message, Message)
    return message.SerializeToString()


class Echo:
    """The cheapest handler there is."""

    async def echo(self, request: Request, context: Context) -> Response:
        return answer(request.request_id)

    async def echo_stream(self, requests: AsyncIterator[StreamRequest], context: Context) -> AsyncIterator[StreamResponse]:
        async for request in requests:
            request_id = request.request.request_id
            yield StreamResponse(request_id=request_id, response=answer(request_id))

    async def cpu(self, request: bytes, context: Context) -> bytes:
        """Nanoseconds of CPU this process has used."""
        return str(time.process_time_ns()).encode()

    def add(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, Handler] = {}
        handlers["Echo"] = grpc.unary_unary_rpc_method_handler(self.echo, Request.FromString, _bytes_of)
        handlers["EchoStream"] = grpc.stream_stream_rpc_method_handler(self.echo_stream, StreamRequest.FromString, _bytes_of)
        handlers["Cpu"] = grpc.unary_unary_rpc_method_handler(self.cpu)
        server.add_registered_method_handlers(ECHO, handlers)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(ECHO, handlers),))


async def serve(workers: int, policy: str) -> None:
    """Prints its port, and serves until stdin is closed."""
    configure("bench", verbose=False, log_format="console", log_file=None)
    registry = CollectorRegistry()
    view = ClusterView(dead_after_s=3600, catalogue=[CatalogueModel(name, "simulated", 10**9) for name in MODELS])
    decider = Decider(view, Terms("c18b0000000000", policy), rng=random.Random(1), records=DecisionRecords())
    metrics = CoordinatorMetrics(registry, policy)
    shell = DeciderShell(decider, clock=time.monotonic, taps=[metrics])
    plane = CentralPlane(shell, WorkerStreams("c"), metrics=metrics, log=get_logger().bind())
    reports = states(workers)
    servicer = SchedulerServicer(Desk(shell, stop=StopSignal("the benchmark")), kind=scheduler_pb2.PLANE_CENTRAL)
    services = [
        ServiceBinding("roost.v1.Scheduler", lambda server: add_SchedulerServicer_to_server(servicer, server)),
        ServiceBinding(ECHO, Echo().add),
    ]
    for state in reports:
        plane.report(state, is_streamed=True)
    async with (
        rpc_server(host="127.0.0.1", port=0, services=services, metrics=GrpcMetrics(registry)) as server,
        asyncio.TaskGroup() as tasks,
    ):
        reporting = tasks.create_task(keep_reporting(plane, decider.placer, reports))
        freeze_after_start()
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        reporting.cancel()


async def keep_reporting(plane: CentralPlane, placer: Placer, states: list[WorkerState]) -> None:
    """Each worker's next report names what was decided for it, as if every request arrived at once."""
    for sequence in itertools.count(2):
        for state in states:
            arrived = list(placer._reservations.tally(state.node_id).open)  # noqa: SLF001  # nobody else asks which they are
            outcomes = tuple(DecisionOutcome(decision_id, CacheResult.HIT) for decision_id in arrived[:MAX_OUTCOMES])
            plane.report(replace(state, sequence=sequence, outcomes=outcomes), is_streamed=True)
            await asyncio.sleep(REPORT_S / len(states))


# --- this process: the caller ---------------------------------------------------------------------


@dataclass(slots=True)
class Turn:
    """What one kind of call reached in one turn."""

    calls_per_s: float
    server_us: float
    latencies_us: list[float]


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the answer; latencies are of all rounds together, 0 where they are not taken."""

    what: str
    concurrency: int
    echo_per_s: float
    schedule_per_s: float
    ratio: float
    server_cpu_ratio: float
    echo_p50_us: float
    schedule_p50_us: float
    echo_p99_us: float
    schedule_p99_us: float
    echo_server_us: float
    schedule_server_us: float


class Caller:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        def unary(path: str) -> grpc.aio.UnaryUnaryMultiCallable[Request, Response]:
            return channel.unary_unary(path, request_serializer=Request.SerializeToString, response_deserializer=Response.FromString)

        def stream(path: str) -> grpc.aio.StreamStreamMultiCallable[StreamRequest, StreamResponse]:
            return channel.stream_stream(
                path, request_serializer=StreamRequest.SerializeToString, response_deserializer=StreamResponse.FromString
            )

        self.unary = {"echo": unary(f"/{ECHO}/Echo"), "schedule": unary("/roost.v1.Scheduler/Schedule")}
        self.stream = {"echo": stream(f"/{ECHO}/EchoStream"), "schedule": stream("/roost.v1.Scheduler/ScheduleStream")}
        self._cpu: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{ECHO}/Cpu")
        self._numbers = iter(range(10**12))

    def request(self) -> Request:
        number = next(self._numbers)
        return Request(request_id=f"r{number}", model_required=MODELS[number % len(MODELS)], priority=number % 10)

    async def turn(self, calling: Awaitable[list[float]], calls: int | None = None) -> Turn:
        cpu, started = int(await self._cpu(b"")), time.perf_counter()
        latencies = await calling
        seconds = time.perf_counter() - started
        count = calls or len(latencies)
        return Turn(count / seconds, (int(await self._cpu(b"")) - cpu) / count / 1000, latencies)

    async def call_unary(self, kind: str, concurrency: int, seconds: float) -> list[float]:
        """Latencies in µs of the calls that `concurrency` callers made in that time."""
        call, latencies, end = self.unary[kind], list[float](), time.perf_counter() + seconds

        async def caller() -> None:
            while (started := time.perf_counter()) < end:
                await call(self.request(), timeout=10)
                latencies.append((time.perf_counter() - started) * 1e6)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(caller())
        return latencies

    async def call_stream(self, kind: str, messages: int) -> list[float]:
        """All messages on one stream, IN_FLIGHT of them unanswered at any time. No latencies: they would be those of the window."""
        window = asyncio.Semaphore(IN_FLIGHT)

        async def requests() -> AsyncIterator[StreamRequest]:
            for _ in range(messages):
                await window.acquire()
                yield StreamRequest(request=self.request())

        answered = 0
        async for answer in self.stream[kind](requests(), timeout=60):
            answered += answer.HasField("response")
            window.release()
        if answered != messages:
            raise RuntimeError(f"{answered} of {messages} requests got a worker")
        return []


@asynccontextmanager
async def server(workers: int, policy: str) -> AsyncIterator[int]:
    """The child; it ends when its stdin is closed, so also when this process dies."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", f"--workers={workers}", f"--policy={policy}", stdin=PIPE, stdout=PIPE
    )
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child has no pipes")
    try:
        yield int(await asyncio.wait_for(child.stdout.readline(), 30))
    finally:
        child.stdin.close()
        await asyncio.wait_for(child.wait(), 10)


Measure = Callable[[str], Awaitable[Turn]]


async def compare(what: str, concurrency: int, measure: Measure, rounds: int) -> Result:
    """Echo and Schedule in turns; each round begins with the other one."""
    await measure("echo")
    await measure("schedule")
    turns: dict[str, list[Turn]] = {"echo": [], "schedule": []}
    for number in range(rounds):
        for kind in ("echo", "schedule") if number % 2 else ("schedule", "echo"):
            turns[kind].append(await measure(kind))
    pairs = list(zip(turns["echo"], turns["schedule"], strict=True))
    echo, schedule = (sorted(latency for turn in turns[kind] for latency in turn.latencies_us) or [0.0] for kind in ("echo", "schedule"))
    return Result(
        what=what,
        concurrency=concurrency,
        echo_per_s=statistics.median(turn.calls_per_s for turn in turns["echo"]),
        schedule_per_s=statistics.median(turn.calls_per_s for turn in turns["schedule"]),
        ratio=statistics.median(schedule.calls_per_s / echo.calls_per_s for echo, schedule in pairs),
        server_cpu_ratio=statistics.median(echo.server_us / schedule.server_us for echo, schedule in pairs),
        echo_p50_us=echo[len(echo) // 2],
        schedule_p50_us=schedule[len(schedule) // 2],
        echo_p99_us=echo[len(echo) * 99 // 100],
        schedule_p99_us=schedule[len(schedule) * 99 // 100],
        echo_server_us=statistics.median(turn.server_us for turn in turns["echo"]),
        schedule_server_us=statistics.median(turn.server_us for turn in turns["schedule"]),
    )


async def measure_all(options: argparse.Namespace) -> list[Result]:
    async with server(options.workers, options.policy) as port, open_channel(f"127.0.0.1:{port}") as channel:
        caller = Caller(channel)
        freeze_after_start()
        results = []
        for concurrency in CONCURRENCIES:

            async def unary(kind: str, concurrency: int = concurrency) -> Turn:
                return await caller.turn(caller.call_unary(kind, concurrency, options.turn))

            results.append(await compare("Schedule", concurrency, unary, options.rounds))

        async def stream(kind: str) -> Turn:
            return await caller.turn(caller.call_stream(kind, options.messages), options.messages)

        results.append(await compare("ScheduleStream", IN_FLIGHT, stream, options.rounds))
    return results


def show(results: list[Result]) -> None:
    table = Table("RPC", title="Schedule against an echo on the same server")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(*cells(result))
    Console(width=150).print(table)


def cells(result: Result) -> Iterator[str]:
    yield from (result.what, f"{result.concurrency}", f"{result.echo_per_s:,.0f}", f"{result.schedule_per_s:,.0f}", f"{result.ratio:.2f}")
    latencies = (result.echo_p50_us, result.schedule_p50_us, result.echo_p99_us, result.schedule_p99_us)
    yield from (f"{latency:,.0f}" if latency else "" for latency in latencies)
    yield from (f"{result.echo_server_us:,.0f}", f"{result.schedule_server_us:,.0f}", f"{result.server_cpu_ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Schedule and ScheduleStream against an echo on the same server.")
    parser.add_argument("--json", action="store_true", help="one JSON object for each line of the table")
    parser.add_argument("--workers", type=int, default=100, help="workers in the view (default 100)")
    parser.add_argument("--policy", default="expected-wait", help="placement policy (default expected-wait)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default 15)")
    parser.add_argument("--turn", type=float, default=0.2, help="seconds of a unary turn (default 0.2)")
    parser.add_argument("--messages", type=int, default=1000, help="messages of a streaming turn (default 1000)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.workers, options.policy))
        return
    gc.collect()
    results = asyncio.run(measure_all(options))
    if options.json:
        for result in results:
            print(json.dumps(asdict(result)))
    else:
        show(results)


if __name__ == "__main__":
    main()
