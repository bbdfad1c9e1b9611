"""Values to wire messages and back: the only place where the meaning of a wire field is written down in code.

`*_from_wire` raises InvalidField, named as on the wire, and bounds every list before it looks at it. `*_to_wire` is deterministic.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from roost.cluster.errors import InvalidField
from roost.cluster.names import MAX_REQUEST_ID, check_model_name
from roost.cluster.worker_state import (
    MAX_FAILING,
    MAX_OUTCOMES,
    MAX_RESIDENT_MODELS,
    NOTHING_FAILS,
    CacheCounters,
    CacheResult,
    CatalogueModel,
    Changes,
    DecisionOutcome,
    Failing,
    GpuSource,
    Liveness,
    ModelStatus,
    ModelTiming,
    Phase,
    WorkerState,
)
from roost.placement.decision import Action, Decision
from roost.placement.request import MAX_EXCLUDED, NO_WORKERS, PlacementRequest
from roost.service.addresses import is_every_address
from roost.v1 import scheduler_pb2, state_pb2

MAX_CATALOGUE: Final = 10_000  # as many as may be resident
MAX_TIMINGS: Final = 256
MAX_ADDRESS: Final = 300  # a host name has at most 253 characters, a port 5
MAX_ENGINE_NAME: Final = 64
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]")

PHASES: Final[Mapping[Phase, state_pb2.ModelPhase.ValueType]] = {
    Phase.LOADING: state_pb2.MODEL_PHASE_LOADING,
    Phase.READY: state_pb2.MODEL_PHASE_READY,
}
GPU_SOURCES: Final[Mapping[GpuSource, state_pb2.GpuSource.ValueType]] = {
    GpuSource.UNKNOWN: state_pb2.GPU_SOURCE_UNSPECIFIED,
    GpuSource.NVML: state_pb2.GPU_SOURCE_NVML,
    GpuSource.BUSY_SLOTS: state_pb2.GPU_SOURCE_BUSY_SLOTS,
}
CACHE_RESULTS: Final[Mapping[CacheResult, state_pb2.CacheResult.ValueType]] = {
    CacheResult.HIT: state_pb2.CACHE_RESULT_HIT,
    CacheResult.COLD_START: state_pb2.CACHE_RESULT_COLD_START,
    CacheResult.JOIN: state_pb2.CACHE_RESULT_JOIN,
    CacheResult.REFUSED: state_pb2.CACHE_RESULT_REFUSED,
}
ACTIONS: Final[Mapping[Action, scheduler_pb2.Action.ValueType]] = {
    Action.SERVE: scheduler_pb2.ACTION_SERVE,
    Action.COLD_START: scheduler_pb2.ACTION_COLD_START,
    Action.MIGRATE: scheduler_pb2.ACTION_MIGRATE,
}
LIVENESSES: Final[Mapping[Liveness, scheduler_pb2.Liveness.ValueType]] = {
    Liveness.LIVE: scheduler_pb2.LIVENESS_LIVE,
    Liveness.SUSPECT: scheduler_pb2.LIVENESS_SUSPECT,
    Liveness.DEAD: scheduler_pb2.LIVENESS_DEAD,
}
_PHASE_OF: Final = {number: phase for phase, number in PHASES.items()}
_GPU_SOURCE_OF: Final = {number: source for source, number in GPU_SOURCES.items()}
_CACHE_RESULT_OF: Final = {number: result for result, number in CACHE_RESULTS.items()}
_SERVE: Final = Action.SERVE  # the most frequent; an enum's hash is written in Python
_SERVE_NUMBER: Final = scheduler_pb2.ACTION_SERVE
_ACTION_OF: Final = {number: action for action, number in ACTIONS.items()}


def check_length(field: str, length: int, at_most: int) -> None:
    if length > at_most:
        raise InvalidField(field, f"has {length} entries; at most {at_most} are allowed")


# --- requests and decisions -----------------------------------------------------------------------


def request_from_wire(wire: scheduler_pb2.ScheduleRequest, fallback_id: str = "") -> PlacementRequest:
    """`fallback_id` names a request whose caller gave no request_id. Raises InvalidField."""
    excluded = wire.excluded_workers
    if excluded:
        check_length("excluded_workers", len(excluded), MAX_EXCLUDED)
    return PlacementRequest(  # the hot path: the fields are in their order because naming them costs half as much again
        wire.request_id or fallback_id,
        wire.model_required,
        wire.priority,
        wire.prompt_tokens,
        wire.max_tokens,
        wire.deadline_s,
        frozenset(excluded) if excluded else NO_WORKERS,
        wire.allow_queueing,
    )


def request_to_wire(request: PlacementRequest) -> scheduler_pb2.ScheduleRequest:
    return scheduler_pb2.ScheduleRequest(
        request_id=request.request_id,
        model_required=request.model,
        priority=request.priority,
        prompt_tokens=request.prompt_tokens,
        max_tokens=request.max_tokens,
        deadline_s=request.deadline_s,
        excluded_workers=sorted(request.excluded),
        allow_queueing=request.may_queue,
    )


def decision_to_wire(decision: Decision, plane: scheduler_pb2.Plane.ValueType) -> scheduler_pb2.ScheduleResponse:
    wire = scheduler_pb2.ScheduleResponse()
    write_decision(wire, decision, plane)
    return wire


def write_decision(wire: scheduler_pb2.ScheduleResponse, decision: Decision, plane: scheduler_pb2.Plane.ValueType) -> None:
    """Fills an empty response, one field after the other: quicker than by keywords, and a response inside a message is not copied."""
    wire.worker_id = decision.worker_id
    wire.action = _SERVE_NUMBER if decision.action is _SERVE else ACTIONS[decision.action]
    wire.estimated_wait_time = decision.estimated_wait_s
    wire.reason = decision.reason
    wire.worker_address = decision.worker_address
    wire.view_age_s = decision.view_age_s
    wire.decision_id = decision.decision_id
    wire.plane = plane
    wire.request_id = decision.request_id
    wire.policy = decision.policy
    if decision.waited_for_load:
        wire.waited_for_load = True
    if not decision.decision_id:
        wire.dry_run = True


def decision_from_wire(wire: scheduler_pb2.ScheduleResponse) -> Decision:
    """Raises InvalidField if the action is none that this version knows."""
    action = _ACTION_OF.get(wire.action)
    if action is None:
        raise InvalidField("action", f"{wire.action} is not one of SERVE, COLD_START, MIGRATE")
    return Decision(
        decision_id=wire.decision_id,
        request_id=wire.request_id,
        worker_id=wire.worker_id,
        worker_address=wire.worker_address,
        action=action,
        estimated_wait_s=wire.estimated_wait_time,
        reason=wire.reason,
        view_age_s=wire.view_age_s,
        policy=wire.policy,
        waited_for_load=wire.waited_for_load,
    )


# --- models ---------------------------------------------------------------------------------------


def model_to_wire(status: ModelStatus) -> state_pb2.ModelStatus:
    return state_pb2.ModelStatus(
        name=status.name,
        phase=PHASES[status.phase],
        size_bytes=status.size_bytes,
        in_flight=status.in_flight,
        queued=status.queued,
        ready_in_s=status.ready_in_s,
        pinned=status.is_pinned,
        max_parallel=status.max_parallel,
    )


def model_from_wire(wire: state_pb2.ModelStatus) -> ModelStatus:
    """Raises InvalidField."""
    phase = _PHASE_OF.get(wire.phase)
    if phase is None:
        raise InvalidField("models.phase", f"must be MODEL_PHASE_LOADING or MODEL_PHASE_READY (got {wire.phase} for {wire.name[:80]!r})")
    return ModelStatus(wire.name, phase, wire.size_bytes, wire.in_flight, wire.queued, wire.ready_in_s, wire.pinned, wire.max_parallel)


def catalogue_model_to_wire(model: CatalogueModel) -> state_pb2.CatalogueModel:
    return state_pb2.CatalogueModel(
        name=model.name,
        engine=model.engine,
        size_bytes=model.size_bytes,
        simulated=model.is_simulated,
        context_tokens=model.context_tokens,
        load_time_s=model.load_time_s,
    )


def catalogue_model_from_wire(wire: state_pb2.CatalogueModel) -> CatalogueModel:
    """Raises InvalidField."""
    if len(wire.engine) > MAX_ENGINE_NAME:
        raise InvalidField("catalogue.engine", f"has {len(wire.engine)} characters; at most {MAX_ENGINE_NAME} are allowed")
    return CatalogueModel(wire.name, wire.engine, wire.size_bytes, wire.simulated, wire.context_tokens, wire.load_time_s)


def catalogue_to_wire(models: Iterable[CatalogueModel]) -> state_pb2.Catalogue:
    """Ordered by name."""
    return state_pb2.Catalogue(models=map(catalogue_model_to_wire, sorted(models, key=lambda model: model.name)))


def catalogue_from_wire(wire: state_pb2.Catalogue) -> tuple[CatalogueModel, ...]:
    """Ordered by name. Raises InvalidField if a name comes twice."""
    check_length("catalogue.models", len(wire.models), MAX_CATALOGUE)
    models = {model.name: model for model in map(catalogue_model_from_wire, wire.models)}
    if len(models) != len(wire.models):
        raise InvalidField("catalogue.models", "names a model twice")
    return tuple(models[name] for name in sorted(models))


# --- a worker's report ----------------------------------------------------------------------------


def state_to_wire(state: WorkerState) -> state_pb2.WorkerLoadReport:
    """A full report. Models and timings ordered by name."""
    wire = rest_to_wire(state)
    wire.loaded_models.extend(state.ready_models)
    wire.models.extend([model_to_wire(state.models[name]) for name in sorted(state.models)])
    wire.timings.extend([timing_to_wire(name, state.timings[name]) for name in sorted(state.timings)])
    return wire


def rest_to_wire(state: WorkerState) -> state_pb2.WorkerLoadReport:
    """Everything but models and timings."""
    wire = state_pb2.WorkerLoadReport(
        node_id=state.node_id,
        queue_depth=state.queue_depth,
        gpu_utilization=state.gpu_utilization,
        timestamp=state.timestamp,
        epoch=state.epoch,
        sequence=state.sequence,
        address=state.address,
        memory_capacity_bytes=state.memory_capacity_bytes,
        memory_used_bytes=state.memory_used_bytes,
        slots=state.slots,
        busy_slots=state.busy_slots,
        queue_by_priority=state.queue_by_priority,
        draining=state.is_draining,
        gpu_source=GPU_SOURCES[state.gpu_source],
        outcomes=map(_outcome_to_wire, state.outcomes),
    )
    if state.failing:
        wire.failing.extend([_failing_to_wire(name, state.failing[name]) for name in sorted(state.failing)])
    if state.catalogue is not None:
        wire.catalogue.CopyFrom(catalogue_to_wire(state.catalogue))
    if state.cache is not None:
        wire.cache.CopyFrom(counters_to_wire(state.cache))
    return wire


def state_from_wire(wire: state_pb2.WorkerLoadReport) -> WorkerState:
    """A full report. A simple reporter's `loaded_models` become ready models of unknown size. Raises InvalidField."""
    if wire.base_sequence:
        raise InvalidField("base_sequence", "must be 0 here: a report of changes follows a full one on the same stream")
    if wire.removed_models or wire.removed_timings:
        raise InvalidField("removed_models" if wire.removed_models else "removed_timings", "must be empty in a full report")
    check_report_lists(wire)
    return state_of(wire, models_from_wire(wire), timings_from_wire(wire), None)


def state_of(
    wire: state_pb2.WorkerLoadReport, models: Mapping[str, ModelStatus], timings: Mapping[str, ModelTiming], changes: Changes | None
) -> WorkerState:
    """These models and times, and everything else as the report says it."""
    return WorkerState(
        node_id=wire.node_id,
        models=models,
        queue_depth=wire.queue_depth,
        gpu_utilization=wire.gpu_utilization,
        timestamp=wire.timestamp,
        epoch=wire.epoch,
        sequence=wire.sequence,
        address=wire.address,
        memory_capacity_bytes=wire.memory_capacity_bytes,
        memory_used_bytes=wire.memory_used_bytes,
        slots=wire.slots or 1,
        busy_slots=wire.busy_slots,
        queue_by_priority=tuple(wire.queue_by_priority),
        timings=timings,
        is_draining=wire.draining,
        gpu_source=_GPU_SOURCE_OF.get(wire.gpu_source, GpuSource.UNKNOWN),
        catalogue=catalogue_from_wire(wire.catalogue) if wire.HasField("catalogue") else None,
        outcomes=tuple(map(_outcome_from_wire, wire.outcomes)),
        cache=counters_from_wire(wire.cache) if wire.HasField("cache") else None,
        failing=_failing_from_wire(wire) if wire.failing else NOTHING_FAILS,
        changes=changes,
    )


def check_address(address: str) -> None:
    """Clients dial it, so it must not be anything that gRPC reads as more than a host and a port. Raises InvalidField."""
    if not address:
        return
    host, _, port = address.rpartition(":")
    if len(address) > MAX_ADDRESS or not _HOST.fullmatch(host) or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise InvalidField("address", f"must be host:port as clients reach it, or empty (got {address[:80]!r})")
    if is_every_address(host):
        raise InvalidField(
            "address", f"is what is listened on, which nobody can dial; give one by which clients reach it (got {address!r})"
        )


def check_report_lists(wire: state_pb2.WorkerLoadReport) -> None:
    """That none is too long, and that the address can be dialled. Raises InvalidField."""
    check_length("loaded_models", len(wire.loaded_models), MAX_RESIDENT_MODELS)
    check_length("models", len(wire.models), MAX_RESIDENT_MODELS)
    check_length("timings", len(wire.timings), MAX_TIMINGS)
    check_length("outcomes", len(wire.outcomes), MAX_OUTCOMES)
    check_length("failing", len(wire.failing), MAX_FAILING)
    check_length("removed_models", len(wire.removed_models), MAX_RESIDENT_MODELS)
    check_length("removed_timings", len(wire.removed_timings), MAX_TIMINGS)
    check_address(wire.address)
    if wire.queue_by_priority and sum(wire.queue_by_priority) != wire.queue_depth:
        raise InvalidField("queue_by_priority", f"sums to {sum(wire.queue_by_priority)}, but queue_depth is {wire.queue_depth}")


def models_from_wire(wire: state_pb2.WorkerLoadReport) -> Mapping[str, ModelStatus]:
    """Those that the report lists. Raises InvalidField."""
    loaded = {check_model_name(name, "loaded_models"): ModelStatus(name, Phase.READY) for name in wire.loaded_models}
    if len(loaded) != len(wire.loaded_models):
        raise InvalidField("loaded_models", "names a model twice")
    if not wire.models:
        return MappingProxyType(loaded)
    models = {status.name: status for status in map(model_from_wire, wire.models)}
    if len(models) != len(wire.models):
        raise InvalidField("models", "names a model twice")
    if loaded and loaded.keys() != {name for name, status in models.items() if status.is_ready}:
        raise InvalidField("loaded_models", "must name the models that `models` lists as ready, or be empty")
    return MappingProxyType(models)


def timings_from_wire(wire: state_pb2.WorkerLoadReport) -> Mapping[str, ModelTiming]:
    """Those that the report lists. Raises InvalidField."""
    timings = {
        check_model_name(timing.name, "timings.name"): ModelTiming(timing.service_time_s, timing.load_time_s) for timing in wire.timings
    }
    if len(timings) != len(wire.timings):
        raise InvalidField("timings", "names a model twice")
    return MappingProxyType(timings)


def timing_to_wire(name: str, timing: ModelTiming) -> state_pb2.ModelTiming:
    return state_pb2.ModelTiming(name=name, service_time_s=timing.service_time_s, load_time_s=timing.load_time_s)


def _failing_to_wire(name: str, failing: Failing) -> state_pb2.FailingModel:
    return state_pb2.FailingModel(name=name, failed_loads=failing.failed_loads, lost_calls=failing.lost_calls, why=failing.why)


def _failing_from_wire(wire: state_pb2.WorkerLoadReport) -> Mapping[str, Failing]:
    failing = {check_model_name(each.name, "failing.name"): Failing(each.failed_loads, each.lost_calls, each.why) for each in wire.failing}
    if len(failing) != len(wire.failing):
        raise InvalidField("failing", "names a model twice")
    return MappingProxyType(failing)


def _outcome_to_wire(outcome: DecisionOutcome) -> state_pb2.DecisionOutcome:
    return state_pb2.DecisionOutcome(decision_id=outcome.decision_id, cache_result=CACHE_RESULTS[outcome.cache_result])


def _outcome_from_wire(wire: state_pb2.DecisionOutcome) -> DecisionOutcome:
    if not 0 < len(wire.decision_id) <= MAX_REQUEST_ID:
        raise InvalidField("outcomes.decision_id", f"must have 1-{MAX_REQUEST_ID} characters (got {len(wire.decision_id)})")
    result = _CACHE_RESULT_OF.get(wire.cache_result)
    if result is None:
        raise InvalidField("outcomes.cache_result", f"must be HIT, COLD_START or JOIN (got {wire.cache_result})")
    return DecisionOutcome(wire.decision_id, result)


def counters_to_wire(cache: CacheCounters) -> state_pb2.CacheCounters:
    return state_pb2.CacheCounters(
        hits=cache.hits, cold_starts=cache.cold_starts, joins=cache.joins, loads=cache.loads, evictions=cache.evictions
    )


def counters_from_wire(wire: state_pb2.CacheCounters) -> CacheCounters:
    return CacheCounters(wire.hits, wire.cold_starts, wire.joins, wire.loads, wire.evictions)
