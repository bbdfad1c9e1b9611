from __future__ import annotations

import contextlib
import random
from types import MappingProxyType

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.errors import InvalidField
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import (
    MAX_WHY,
    CacheCounters,
    CacheResult,
    CatalogueModel,
    DecisionOutcome,
    Failing,
    GpuSource,
    ModelStatus,
    ModelTiming,
    Phase,
    WorkerState,
)
from roost.placement.decision import Action, Decision
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest
from roost.service.codec import (
    catalogue_from_wire,
    catalogue_to_wire,
    decision_from_wire,
    decision_to_wire,
    request_from_wire,
    request_to_wire,
    state_from_wire,
    state_to_wire,
)
from roost.service.scheduler.state_codec import cluster_state_to_wire
from roost.v1 import scheduler_pb2, state_pb2

UINT32, UINT64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
TOKENS = st.integers(0, 2**31 - 1)
SECONDS = st.floats(0, allow_infinity=False, allow_nan=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MODEL_NAMES = st.text(st.characters(exclude_categories=["Cs"]).filter(str.isprintable), min_size=1, max_size=128)
WORKER_NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
MODELS = st.builds(ModelStatus, MODEL_NAMES, st.sampled_from(Phase), UINT64, UINT32, UINT32, SECONDS, st.booleans(), UINT32)
CATALOGUES = st.lists(
    st.builds(CatalogueModel, MODEL_NAMES, st.text("abc", max_size=64), UINT64, st.booleans(), UINT32, SECONDS),
    max_size=4,
    unique_by=lambda model: model.name,
).map(lambda models: tuple(sorted(models, key=lambda model: model.name)))
FAILING = st.builds(Failing, UINT32, UINT32, st.text(max_size=MAX_WHY))
OUTCOMES = st.builds(DecisionOutcome, st.text("abc-1", min_size=1, max_size=128), st.sampled_from(CacheResult))


@st.composite
def states(draw: st.DrawFn) -> WorkerState:
    queue = draw(st.just(()) | st.tuples(*[st.integers(0, 1000)] * 10))
    return WorkerState(
        node_id=draw(WORKER_NAMES),
        models={model.name: model for model in draw(st.lists(MODELS, max_size=5, unique_by=lambda model: model.name))},
        queue_depth=sum(queue) if queue else draw(UINT32),
        gpu_utilization=draw(st.floats(0, 1)),
        timestamp=draw(SECONDS),
        epoch=draw(UINT64),
        sequence=draw(UINT64),
        address=draw(st.just("") | st.just("10.0.0.1:8001") | st.just("[::1]:8001") | st.just("worker-1.local:1")),
        memory_capacity_bytes=draw(UINT64),
        memory_used_bytes=draw(UINT64),
        slots=draw(st.integers(1, 2**32 - 1)),
        busy_slots=draw(UINT32),
        queue_by_priority=queue,
        timings=draw(st.dictionaries(MODEL_NAMES, st.builds(ModelTiming, SECONDS, SECONDS), max_size=3)),
        is_draining=draw(st.booleans()),
        gpu_source=draw(st.sampled_from(GpuSource)),
        catalogue=draw(st.none() | CATALOGUES),
        outcomes=tuple(draw(st.lists(OUTCOMES, max_size=3))),
        cache=draw(st.none() | st.builds(CacheCounters, UINT64, UINT64, UINT64, UINT64, UINT64)),
        failing=draw(st.dictionaries(MODEL_NAMES, FAILING, max_size=3)),
    )


REQUESTS = st.builds(
    PlacementRequest,
    request_id=TEXTS,
    model=MODEL_NAMES,
    priority=st.integers(0, 9),
    prompt_tokens=TOKENS,
    max_tokens=TOKENS,
    deadline_s=SECONDS,
    excluded=st.frozensets(TEXTS, max_size=5),
    may_queue=st.booleans(),
)
DECISIONS = st.builds(Decision, TEXTS, TEXTS, TEXTS, TEXTS, st.sampled_from(Action), SECONDS, TEXTS, SECONDS, TEXTS)


@given(states())
@settings(max_examples=100, deadline=None)
def test_a_workers_state_survives_the_wire(state: WorkerState) -> None:
    serialized = state_to_wire(state).SerializeToString()
    assert state_from_wire(state_pb2.WorkerLoadReport.FromString(serialized)) == state


@given(REQUESTS)
def test_a_request_survives_the_wire(request: PlacementRequest) -> None:
    serialized = request_to_wire(request).SerializeToString()
    assert request_from_wire(scheduler_pb2.ScheduleRequest.FromString(serialized)) == request


@given(DECISIONS, st.sampled_from([scheduler_pb2.PLANE_CENTRAL, scheduler_pb2.PLANE_GOSSIP]))
def test_a_decision_survives_the_wire(decision: Decision, plane: scheduler_pb2.Plane.ValueType) -> None:
    wire = scheduler_pb2.ScheduleResponse.FromString(decision_to_wire(decision, plane).SerializeToString())
    assert decision_from_wire(wire) == decision
    assert wire.plane == plane


@given(CATALOGUES)
def test_a_catalogue_survives_the_wire(models: tuple[CatalogueModel, ...]) -> None:
    assert catalogue_from_wire(catalogue_to_wire(reversed(models))) == models


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_whatever_parses_as_a_report_is_a_state_or_names_a_field(serialized: bytes) -> None:
    with contextlib.suppress(DecodeError, InvalidField):  # grpc ends the call by itself; the caller hears which field
        state_from_wire(state_pb2.WorkerLoadReport.FromString(b"\x0a\x01w" + serialized))


def report(**fields: object) -> state_pb2.WorkerLoadReport:
    return state_pb2.WorkerLoadReport(**{"node_id": "w", **fields})  # type: ignore[arg-type]


def ready(*names: str) -> list[state_pb2.ModelStatus]:
    return [state_pb2.ModelStatus(name=name, phase=state_pb2.MODEL_PHASE_READY, size_bytes=5) for name in names]


def test_the_five_seed_fields_are_enough() -> None:
    state = state_from_wire(report(loaded_models=["b", "a"], queue_depth=2, gpu_utilization=0.5, timestamp=1.5))
    assert state == WorkerState(
        "w",
        models=MappingProxyType({name: ModelStatus(name, Phase.READY) for name in ("a", "b")}),
        queue_depth=2,
        gpu_utilization=0.5,
        timestamp=1.5,
    )
    assert state.slots == 1


def test_loaded_models_may_be_left_out_or_must_agree_with_models() -> None:
    loading = state_pb2.ModelStatus(name="c", phase=state_pb2.MODEL_PHASE_LOADING)
    for loaded in ([], ["a", "b"]):
        assert state_from_wire(report(models=[*ready("a", "b"), loading], loaded_models=loaded)).ready_models == ("a", "b")
    for loaded in (["a"], ["a", "b", "c"]):
        with pytest.raises(InvalidField, match="loaded_models"):
            state_from_wire(report(models=[*ready("a", "b"), loading], loaded_models=loaded))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"node_id": ""}, "node_id"),
        ({"node_id": "a b"}, "node_id"),
        ({"gpu_utilization": 1.5}, "gpu_utilization"),
        ({"gpu_utilization": float("nan")}, "gpu_utilization"),
        ({"timestamp": -1.0}, "timestamp"),
        ({"timestamp": float("inf")}, "timestamp"),
        ({"loaded_models": [""]}, "loaded_models"),
        ({"loaded_models": ["a", "a"]}, "loaded_models"),
        ({"loaded_models": [str(number) for number in range(10_001)]}, "loaded_models"),
        ({"models": ready(*map(str, range(10_001)))}, "models"),
        ({"models": ready("a", "a")}, "models"),
        ({"failing": [state_pb2.FailingModel(name="a")] * 2}, "failing"),
        ({"failing": [state_pb2.FailingModel(name="")]}, "failing.name"),
        ({"failing": [state_pb2.FailingModel(name="a", why="x" * 201)]}, "failing.why"),
        ({"failing": [state_pb2.FailingModel(name=str(number)) for number in range(257)]}, "failing"),
        ({"models": [state_pb2.ModelStatus(name="a")]}, "models.phase"),
        ({"models": [state_pb2.ModelStatus(name="", phase=state_pb2.MODEL_PHASE_READY)]}, "models.name"),
        ({"models": [state_pb2.ModelStatus(name="a", phase=state_pb2.MODEL_PHASE_READY, ready_in_s=-1)]}, "models.ready_in_s"),
        ({"queue_depth": 3, "queue_by_priority": [1] * 10}, "queue_by_priority"),
        ({"queue_depth": 2, "queue_by_priority": [1, 1]}, "queue_by_priority"),
        ({"timings": [state_pb2.ModelTiming(name=str(number)) for number in range(257)]}, "timings"),
        ({"timings": [state_pb2.ModelTiming(name="a")] * 2}, "timings"),
        ({"timings": [state_pb2.ModelTiming(name="a", load_time_s=float("nan"))]}, "timings.load_time_s"),
        ({"outcomes": [state_pb2.DecisionOutcome(decision_id="d")]}, "outcomes.cache_result"),
        ({"outcomes": [state_pb2.DecisionOutcome(cache_result=state_pb2.CACHE_RESULT_HIT)]}, "outcomes.decision_id"),
        ({"outcomes": [state_pb2.DecisionOutcome(decision_id="d", cache_result=state_pb2.CACHE_RESULT_HIT)] * 4097}, "outcomes"),
        ({"catalogue": state_pb2.Catalogue(models=[state_pb2.CatalogueModel(name="a")] * 2)}, "catalogue.models"),
        ({"catalogue": state_pb2.Catalogue(models=[state_pb2.CatalogueModel(name="a", engine="e" * 65)])}, "catalogue.engine"),
        ({"address": "a" * 300 + ":80"}, "address"),
        ({"address": "no-port"}, "address"),
        ({"address": "unix:/run/roost.sock"}, "address"),
        ({"address": "host:99999"}, "address"),
    ],
)
def test_a_bad_report_names_its_field(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        state_from_wire(report(**fields))
    assert caught.value.field == field


def test_a_request_without_a_name_gets_the_one_it_is_given() -> None:
    assert request_from_wire(scheduler_pb2.ScheduleRequest(model_required="m"), "made-1").request_id == "made-1"
    assert request_from_wire(scheduler_pb2.ScheduleRequest(model_required="m", request_id="own"), "made-1").request_id == "own"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model_required": ""}, "model_required"),
        ({"model_required": "m" * 129}, "model_required"),
        ({"priority": 10}, "priority"),
        ({"priority": -1}, "priority"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"deadline_s": -0.5}, "deadline_s"),
        ({"deadline_s": float("nan")}, "deadline_s"),
        ({"request_id": "r" * 129}, "request_id"),
        ({"excluded_workers": ["w"] * 257}, "excluded_workers"),
    ],
)
def test_a_bad_request_names_its_field(fields: dict[str, object], field: str) -> None:
    wire = scheduler_pb2.ScheduleRequest(**{"model_required": "m", **fields})  # type: ignore[arg-type]
    with pytest.raises(InvalidField) as caught:
        request_from_wire(wire)
    assert caught.value.field == field


def cluster(order: list[str]) -> tuple[ClusterView, Placer]:
    view = ClusterView(catalogue=[CatalogueModel("absent", "simulated", 7)])
    placer = Placer(view, "weighted-score", rng=random.Random(1), decider="c")
    for name in order:
        models = {model: ModelStatus(model, Phase.READY, 5) for model in ("warm", f"only-on-{name}")}
        view.apply(WorkerState(name, models=models, queue_depth=2, gpu_utilization=0.5, slots=4), 10.0, is_streamed=True)
    return view, placer


def test_the_cluster_is_told_in_order_whatever_order_it_came_in() -> None:
    answers = [cluster_state_to_wire(*cluster(order), 11.5, scheduler_pb2.PLANE_CENTRAL) for order in (["b", "a"], ["a", "b"])]
    assert answers[0].SerializeToString(deterministic=True) == answers[1].SerializeToString(deterministic=True)
    state = answers[0]
    assert [worker.report.node_id for worker in state.workers] == ["a", "b"]
    assert [model.model.name for model in state.models] == ["absent", "only-on-a", "only-on-b", "warm"]
    assert list(state.models[3].ready_on) == ["a", "b"]
    assert (state.active_workers, state.average_gpu_utilization, state.total_queue_depth) == (2, 0.5, 4)
    assert (state.workers[0].age_s, state.workers[0].liveness) == (1.5, scheduler_pb2.LIVENESS_LIVE)
    assert (state.policy, state.plane) == ("weighted-score", scheduler_pb2.PLANE_CENTRAL)


def test_the_cluster_counts_what_was_decided() -> None:
    view, placer = cluster(["a"])
    placer.decide(PlacementRequest("r1", "warm"), 10.0)
    placer.decide(PlacementRequest("r2", "absent"), 10.0)
    state = cluster_state_to_wire(view, placer, 10.0, scheduler_pb2.PLANE_CENTRAL)
    assert (state.total_requests, state.cache_hits, state.cold_starts, state.cache_hit_rate) == (2, 1, 1, 0.5)
    assert state.workers[0].reservations == 2


def test_an_empty_cluster_is_told_as_such() -> None:
    view = ClusterView()
    state = cluster_state_to_wire(view, Placer(view, rng=random.Random(1), decider="c"), 0.0, scheduler_pb2.PLANE_CENTRAL)
    assert (len(state.workers), len(state.models), state.cache_hit_rate, state.active_workers) == (0, 0, 0.0, 0)
