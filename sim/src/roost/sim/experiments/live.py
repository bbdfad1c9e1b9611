"""A plan on real processes: a cluster on this machine, the plan's requests sent when they are due, and what a client saw of them.

Clients are coroutines of this process and measure by its clock. Without a coordinator each request enters by the next sidecar in turn, as
those of many clients would.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from roost.client.client import RoostClient
from roost.client.local.cluster import start, state_or_none, wait_registered
from roost.client.local.plan import ClusterOptions, Mode, ProcessPlan, plan_cluster
from roost.client.local.processes import Child, Processes, local_processes
from roost.client.results import Accepted, Completed, Event, Scheduled, Token
from roost.cluster.errors import NoCapacity, RoostError
from roost.cluster.worker_state import CacheResult
from roost.sim.clients import Delays
from roost.sim.experiments.counted import DECISIONS, HITS
from roost.sim.experiments.plan import CENTRAL, GOSSIP, MODEL_BYTES, PROFILE, TIER, Ask, Fault, Plan, Setup
from roost.sim.records import COLD_START, FAILED, HIT, JOIN, REFUSED, RequestRecord, RunRecord, WorkerSample

START_BOUND_S = 60.0
REQUEST_BOUND_S = 60.0  # a client that has waited as long has given up
SAMPLE_S = 0.5
SETTLE_S = 2.0  # after the start: what has to be told once is told
HOST = "127.0.0.1"
_RESULTS = {CacheResult.HIT: HIT, CacheResult.COLD_START: COLD_START, CacheResult.JOIN: JOIN}


class CannotRun(RoostError):
    """The plan cannot be carried out on real processes."""

    reason = "CANNOT_RUN"


def catalogue_file(setup: Setup, folder: Path) -> Path:
    """A models.toml of the setup's models, for the simulated engine."""
    entry = (
        '[models.{name}]\nengine = "simulated"\nsource = "published"\nsize = "{size}"\nlimits = {{ parallel = {parallel} }}\n'
        'options = {{ tier = "{tier}", profile = "{profile}", time_scale = {scale} }}\n'
    )
    text = "".join(
        entry.format(name=name, size=MODEL_BYTES, parallel=setup.slots, tier=TIER, profile=PROFILE, scale=setup.time_scale)
        for name in setup.model_names
    )
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def free_base(count: int) -> int:
    """A port with `count` free ones above it."""
    for base in range(21_000 + random.randrange(5_000), 31_000, count + 1):  # noqa: S311 - spreads runs over ports
        if all(_is_free(port) for port in range(base, base + count + 1)):
            return base
    raise CannotRun(f"no {count} neighbouring ports are free on {HOST}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Cluster:
    """The processes of one run, and how they are killed and started anew."""

    def __init__(self, processes: Processes, plans: tuple[ProcessPlan, ...], targets: tuple[str, ...]) -> None:
        self.targets = targets
        self._processes = processes
        self._plans = plans

    def _of(self, victim: str) -> list[ProcessPlan]:
        """The coordinator's plan, or that of a worker and of its sidecar."""
        names = {victim, victim.replace("worker", "sidecar")}
        return [plan for plan in self._plans if plan.name in names]

    def kill(self, victim: str) -> None:
        plans = self._of(victim)
        for child in self._processes.children:
            if child.plan in plans and child.is_running:
                child.kill()

    async def revive(self, victim: str) -> list[Child]:
        return [await self._processes.start(plan) for plan in self._of(victim)]


@asynccontextmanager
async def cluster(plan: Plan, folder: Path) -> AsyncIterator[Cluster]:
    """Runs while the block does. Raises StartFailed, CannotRun."""
    if plan.plane not in (CENTRAL, GOSSIP):
        raise CannotRun(f"only {CENTRAL} and {GOSSIP} can be started as processes (got {plan.plane})")
    setup = plan.setup
    mode = Mode.CENTRAL if plan.plane == CENTRAL else Mode.GOSSIP
    base = free_base(3 * setup.workers + 4)
    options = ClusterOptions(
        workers=setup.workers,
        host=HOST,
        coordinator_port=base,
        base_worker_port=base,
        metrics_port=None,
        models=str(catalogue_file(setup, folder)),
        policy=setup.policy,
        memory=str(setup.memory_bytes),
        slots=setup.slots,
        mode=mode,
        base_gossip_port=base + setup.workers,
        base_sidecar_port=base + 2 * setup.workers,
    )
    plans = plan_cluster(options)
    async with local_processes(folder) as processes:
        await start(processes, plans, HOST)
        async with RoostClient(options.targets) as client:
            await wait_registered(processes, client, bound_s=START_BOUND_S, on_progress=lambda _: None)
        yield Cluster(processes, plans, options.targets)


@dataclass(slots=True)
class _Seen:
    """What a client saw of one request so far. Times are seconds since its arrival."""

    worker: str = ""
    action: str = ""
    result: str = ""
    attempts: int = 0
    scheduled_s: float = 0.0
    ttft_s: float = 0.0
    queue_s: float = 0.0
    load_s: float = 0.0
    prefill_s: float = 0.0


class Clients:
    """Sends the plan's requests. One client a target, each with all the others behind it.

    State: the records so far; and of each request that went to a ready model at the first attempt, seconds from the decision to the first
    token beyond those that the worker says it took: what it costs to go there and back under this load.
    """

    def __init__(self, clients: list[RoostClient], clock: Callable[[], float]) -> None:
        self.records: list[RequestRecord] = []
        self.ways_s: list[float] = []
        self._turns = itertools.cycle(clients)
        self._clock = clock

    async def send(self, asks: tuple[Ask, ...], began_at: float) -> None:
        """Returns when the last request has ended."""
        async with asyncio.TaskGroup() as requests:
            for number, ask in enumerate(asks):
                await asyncio.sleep(max(0.0, began_at + ask.arrival_s - self._clock()))
                requests.create_task(self._request(number, ask, next(self._turns)))
        self.records.sort(key=lambda record: record.request_id)

    async def _request(self, number: int, ask: Ask, client: RoostClient) -> None:
        seen, sent_at = _Seen(), self._clock()
        prompt = "x" * (4 * ask.prompt_tokens)
        try:
            async with asyncio.timeout(REQUEST_BOUND_S), aclosing(self._events(client, ask, prompt)) as events:
                async for event in events:
                    self._note(seen, event, self._clock() - sent_at)
        except NoCapacity:
            seen.result = REFUSED
        except (RoostError, TimeoutError):
            seen.result = FAILED
        sojourn_s = self._clock() - sent_at
        if seen.result == HIT and seen.attempts == 1 and seen.ttft_s:
            self.ways_s.append(max(0.0, seen.ttft_s - seen.scheduled_s - seen.queue_s - seen.load_s - seen.prefill_s))
        wait_s = max(0.0, seen.ttft_s - seen.prefill_s) if seen.result in _RESULTS.values() else 0.0
        at_worker = (seen.attempts, seen.queue_s, seen.load_s)
        result = seen.result or FAILED
        waits = (wait_s, seen.ttft_s, sojourn_s)
        self.records.append(RequestRecord(number, ask.arrival_s, ask.model, seen.worker, seen.action, result, *waits, *at_worker))

    def _events(self, client: RoostClient, ask: Ask, prompt: str) -> AsyncGenerator[Event, None]:
        return client.generate(ask.model, prompt, max_tokens=ask.output_tokens, timeout_s=REQUEST_BOUND_S)

    @staticmethod
    def _note(seen: _Seen, event: Event, after_s: float) -> None:
        match event:
            case Scheduled(decision, attempt):
                seen.worker, seen.action = decision.worker_id, decision.action.name
                seen.attempts, seen.scheduled_s = attempt, after_s
            case Accepted(cache=cache):
                seen.result = _RESULTS.get(cache, FAILED) if cache is not None else FAILED
            case Token(index=0):
                seen.ttft_s = after_s
            case Completed(timings=timings):
                seen.queue_s, seen.load_s, seen.prefill_s = timings.queued_s, timings.load_s, timings.prefill_s


def rotations_of(targets: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Each target first once, with all the others behind it."""
    return [targets[turn:] + targets[:turn] for turn in range(len(targets))]


async def run_live(plan: Plan) -> RunRecord:
    """Carries the plan out on this machine. Raises StartFailed, CannotRun."""
    record, _ = await run_measured(plan)
    return record


async def run_measured(plan: Plan) -> tuple[RunRecord, Delays]:
    """The same, and what a request cost between the processes meanwhile. Raises StartFailed, CannotRun."""
    with temporary_folder() as folder:
        async with cluster(plan, folder) as running, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RoostClient(targets)) for targets in rotations_of(running.targets)]
            await asyncio.sleep(SETTLE_S)
            return await _carry_out(plan, running, clients)


async def _carry_out(plan: Plan, running: Cluster, clients: list[RoostClient]) -> tuple[RunRecord, Delays]:
    clock = asyncio.get_running_loop().time
    began_at = clock()
    senders = Clients(clients, clock)
    samples: list[WorkerSample] = []
    asks_s: list[float] = []
    events: list[tuple[float, str]] = []
    beside = [asyncio.create_task(_sample(clients[-1], samples, asks_s, clock, began_at))]
    beside += [asyncio.create_task(_strike(running, fault, events, clock, began_at)) for fault in plan.faults]
    try:
        await senders.send(plan.asks(), began_at)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    totals = await _decided(clients) if plan.plane == CENTRAL else {}
    setup, requests = plan.setup, tuple(senders.records)
    kept = tuple(sample for sample in samples if sample.at_s <= setup.duration_s)
    record = RunRecord(plan.plane, setup.policy, plan.seed, setup.duration_s, setup.worker_names, requests, kept, tuple(events), totals)
    return record, _delays(asks_s, senders.ways_s)


async def _decided(clients: list[RoostClient]) -> dict[str, float]:
    """What a coordinator counted: a request that waited there for a load is no hit, though its worker found the model ready.

    Sidecars bind at once and hear the outcomes of their own worker alone, so there the workers' word is the whole truth.
    """
    totals = {HITS: 0.0, DECISIONS: 0.0}
    for client in clients:  # each asks another decider first
        state = await state_or_none(client)
        if state is not None:
            totals[HITS] += state.cache_hits
            totals[DECISIONS] += state.cache_hits + state.cold_starts + state.joins
    return totals


def _delays(asks_s: list[float], ways_s: list[float]) -> Delays:
    """Medians; what there is no measurement of takes no time."""
    way_s = median(ways_s or [0.0])
    return Delays(ask_s=median(asks_s or [0.0]), send_s=way_s / 2, reply_s=way_s / 2)


async def _sample(
    client: RoostClient, samples: list[WorkerSample], asks_s: list[float], clock: Callable[[], float], began_at: float
) -> None:
    """Looks at every worker twice a second, as the decider sees it; and how long asking the decider takes, where nobody has to wait."""
    for number in itertools.count():
        await asyncio.sleep(max(0.0, began_at + number * SAMPLE_S - clock()))
        asked_at = clock()
        try:
            state = await state_or_none(client)
        except RoostError:
            continue
        if state is not None:
            asks_s.append(clock() - asked_at)
        at_s = round(number * SAMPLE_S, 3)
        for worker in () if state is None else state.workers:
            said = worker.state
            samples.append(WorkerSample(at_s, said.node_id, said.queue_depth, said.busy_slots, said.slots, said.gpu_utilization))


async def _strike(running: Cluster, fault: Fault, events: list[tuple[float, str]], clock: Callable[[], float], began_at: float) -> None:
    await asyncio.sleep(max(0.0, began_at + fault.at_s - clock()))
    running.kill(fault.victim)
    events.append((round(clock() - began_at, 3), f"{fault.victim} killed"))
    await asyncio.sleep(fault.back_after_s)
    await running.revive(fault.victim)
    events.append((round(clock() - began_at, 3), f"{fault.victim} started anew"))


@contextmanager
def temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="roost-experiment-") as folder:
        yield Path(folder)
