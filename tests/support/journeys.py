"""Four journeys through the code, each really made while every call is noted: what `docs/architecture.md` tells is held against them."""

from __future__ import annotations

import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from prometheus_client import CollectorRegistry
from steered_engine import catalogue_of
from worker_world import world

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import Liveness
from roost.coordinator.codec import upward_from_wire
from roost.coordinator.metrics import CoordinatorMetrics
from roost.coordinator.plane import CentralPlane
from roost.coordinator.worker_streams import WorkerStreams
from roost.gossip.codec import BytesCodec
from roost.gossip.core.local_view import NEVER_S, LocalView, sidecar_terms
from roost.gossip.core.publishing import Publishing
from roost.gossip.core.records import load_of
from roost.gossip.metrics import GossipMetrics
from roost.gossip.plane import GossipPlane
from roost.gossip.protocol.config import LAN, Config, StateParameters
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.node import Node
from roost.gossip.record_format import record_from_bytes, record_to_bytes
from roost.placement.decider import Decider
from roost.placement.records import DecisionRecords
from roost.placement.terms import Terms
from roost.service.codec import state_from_wire
from roost.service.logs import get_logger
from roost.service.report_changes import ReportReader
from roost.service.scheduler.desk import Desk
from roost.service.scheduler.servicer import SchedulerServicer
from roost.service.scheduler.shell import DeciderShell
from roost.service.streams import StopSignal
from roost.v1 import coordinator_pb2, messages_pb2, scheduler_pb2
from roost.worker.engines.simulated import SimulatedEngine
from roost.worker.generation import Completed, GenerationRequest

Call = tuple[str, str]  # the file below roost/, and the function as it is named in its class

ROOT = Path(__file__).parents[2]
_MARK = "/src/roost/"


class Journey:
    """Notes every call into Roost's own code while the block runs, in order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            path, mark, file = frame.f_code.co_filename.partition(_MARK)
            if mark and path.startswith(str(ROOT)):
                self.calls.append((file, frame.f_code.co_name))

    @property
    def functions(self) -> list[Call]:
        """Each once, in the order in which they were first called; comprehensions and lambdas are no stops of a reader."""
        return [call for call in dict.fromkeys(self.calls) if not call[1].startswith("<")]


def _report(number: int, sequence: int, ready: str, **fields: object) -> coordinator_pb2.ConnectRequest:
    status = messages_pb2.ModelStatus(name=ready, phase=messages_pb2.MODEL_PHASE_READY, size_bytes=100)
    report = messages_pb2.WorkerLoadReport(
        node_id=f"worker-{number}", loaded_models=[ready], models=[status], address=f"127.0.0.1:80{number:02}", slots=2,
        memory_capacity_bytes=300, epoch=5, sequence=sequence, **fields,  # type: ignore[arg-type]
    )  # fmt: skip
    if sequence == 1:
        known = [messages_pb2.CatalogueModel(name=f"m{number}", engine="simulated", size_bytes=100) for number in range(6)]
        report.catalogue.CopyFrom(messages_pb2.Catalogue(models=known))
    return coordinator_pb2.ConnectRequest(report=report)


async def schedule_and_report() -> tuple[Journey, Journey]:
    """A `Schedule` that hits, with the records on; and the worker's report that tells of its arrival."""
    decider = Decider(ClusterView(), Terms("c1", can_tell=True), rng=random.Random(1), records=DecisionRecords(1_000))
    metrics = CoordinatorMetrics(CollectorRegistry(), decider.terms.policy)
    shell = DeciderShell(decider, clock=time.monotonic, taps=[metrics], load=_nothing)
    plane = CentralPlane(shell, WorkerStreams("c1"), metrics=metrics, log=get_logger())
    servicer = SchedulerServicer(Desk(shell, stop=StopSignal("the coordinator")), kind=scheduler_pb2.PLANE_CENTRAL)

    readers: defaultdict[str, ReportReader] = defaultdict(ReportReader)  # one a stream

    def say(message: coordinator_pb2.ConnectRequest) -> None:
        plane.report(upward_from_wire(message, readers[message.report.node_id]), is_streamed=True, stream=1)  # type: ignore[arg-type]  # it is a report

    async def ask(name: str, model: str) -> scheduler_pb2.ScheduleResponse:
        request = scheduler_pb2.ScheduleRequest(request_id=name, model_required=model, allow_queueing=True)
        return await servicer.Schedule(request, None)  # type: ignore[arg-type]  # the context is not looked at

    for number in range(12):
        say(_report(number, 1, f"m{number % 3}"))
    for number in range(3):
        await ask(f"before-{number}", "m0")
    with Journey() as asking:
        decision = await ask("hit", "m1")
    outcome = messages_pb2.DecisionOutcome(decision_id=decision.decision_id, cache_result=messages_pb2.CACHE_RESULT_HIT)
    number = int(decision.worker_id.removeprefix("worker-"))
    report = _report(number, 2, f"m{number % 3}", outcomes=[outcome])
    with Journey() as reporting:
        say(report)
    return asking, reporting


async def cold_generation() -> Journey:
    """A generation whose model is not in memory, of three tokens, on a worker without a wire."""
    async with world(catalogue_of(a=40, b=40, c=40)) as worker:
        worker.runtime.host._engines = {"simulated": SimulatedEngine(time_scale=0.001)}
        request = GenerationRequest(model="a", prompt="one two three", request_id="g", max_tokens=3, decision_id="c1-1")
        with Journey() as journey:
            events = [event async for event in worker.runtime.generate(request)]
    assert isinstance(events[-1], Completed)
    return journey


class _Pair:
    """Two sidecars on a network without loss, of which the first is asked and the second has a worker."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes = [self._node(number) for number in (1, 2)]
        terms = sidecar_terms("g1", "expected-wait", aging_s=10.0)
        decider = Decider(ClusterView(dead_after_s=NEVER_S), terms, rng=random.Random(1))
        shell = DeciderShell(decider, clock=lambda: self.now, taps=[GossipMetrics(CollectorRegistry(), terms.policy)], load=_nothing)
        local = LocalView(shell.hear, decider.view.entries, self.nodes[0], Counters(), read=record_from_bytes, wall_offset_s=0.0)
        self.plane = GossipPlane(shell, local, self.nodes[0], log=get_logger())

    @staticmethod
    def _node(number: int) -> Node[bytes]:
        config = Config(name=f"worker-{number}", address=(f"10.0.0.{number}", 7946), epoch=10, swim=LAN, state=StateParameters())
        return Node(config, random.Random(number), codec=BytesCodec("roost"), now=0.0)

    def step(self, taken: Callable[[bytes, tuple[str, int]], None]) -> None:
        """A hundredth of a second. What the first is sent goes to `taken`."""
        first, second = self.nodes
        for node in self.nodes:
            due = node.next_timer()
            if due is not None and due <= self.now:
                node.handle_timer(self.now)
        for node, other in ((first, second), (second, first)):
            for datagram in node.datagrams_to_send(self.now):
                if other is first:
                    taken(datagram.data, node.identity.address)
                else:
                    other.receive_datagram(datagram.data, node.identity.address, self.now)
            for request in node.stream_requests(self.now):
                reply = other.receive_stream(request.data, self.now)
                node.stream_failed(request.request) if reply is None else node.receive_stream_reply(request.request, reply, self.now)
        while second.next_event() is not None:
            pass
        self.hear()
        self.now = round(self.now + 0.01, 4)

    def take(self, data: bytes, source: tuple[str, int]) -> None:
        self.nodes[0].receive_datagram(data, source, self.now)

    def hear(self) -> list[str]:
        """The first node's events, told to its plane, by name."""
        heard: list[str] = []
        while (event := self.nodes[0].next_event()) is not None:
            self.plane.heard(event, self.now)
            heard.append(type(event).__name__)
        return heard


def datagram() -> Journey:
    """A datagram in which another member's worker tells that its load has changed, and the view when somebody looks at it next."""

    pair = _Pair()
    first, second = pair.nodes
    second.join([], 0.0)
    first.join([second.identity.address], 0.0)
    state = state_from_wire(_report(2, 1, "m1").report)
    Publishing(lambda changes: second.publish_keys(changes, 0.0), Counters(), write=record_to_bytes).tell(state, Liveness.LIVE, 0.0)
    second.publish_load(load_of(state, Liveness.LIVE), 0.0)
    while pair.now < 4.0:
        pair.step(pair.take)
    _ = pair.plane.shell.view  # somebody has looked: only what is new remains to be read
    second.publish_load(Load(3, 1, 0.5, False), pair.now)  # draining
    found: list[Journey] = []

    def taken(data: bytes, source: tuple[str, int]) -> None:
        with Journey() as journey:
            pair.take(data, source)
            heard = pair.hear()
            _ = pair.plane.shell.view
        if "HotChanged" in heard:
            found.append(journey)

    while not found and pair.now < 8.0:
        pair.step(taken)
    return found[0]


def _nothing(_: object) -> None:
    """Nobody is to load anything."""
