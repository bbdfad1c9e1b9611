"""The client's side of the wire: answers into results. Numbers of enums that a newer server may add become "unknown"."""

from __future__ import annotations

from roost.client.results import (
    Accepted,
    ClusterState,
    Completed,
    Decision,
    FinishReason,
    ModelSnapshot,
    PassedOverWorker,
    Plane,
    Progress,
    Timings,
    Token,
    Usage,
    WorkerOutcome,
    WorkerSnapshot,
)
from roost.cluster.worker_state import CacheResult, CatalogueModel, Liveness
from roost.flow.steps import Exactness, Phase, ResumePolicy, Started
from roost.flow.told import Told
from roost.placement.decision import Action
from roost.service.codec import state_from_wire
from roost.v1 import coordinator_pb2, scheduler_pb2, state_pb2, worker_pb2

_ACTIONS = {
    scheduler_pb2.ACTION_SERVE: Action.SERVE,
    scheduler_pb2.ACTION_COLD_START: Action.COLD_START,
    scheduler_pb2.ACTION_MIGRATE: Action.MIGRATE,
}
_PLANES = {scheduler_pb2.PLANE_CENTRAL: Plane.CENTRAL, scheduler_pb2.PLANE_GOSSIP: Plane.GOSSIP}
_LIVENESS = {
    scheduler_pb2.LIVENESS_LIVE: Liveness.LIVE,
    scheduler_pb2.LIVENESS_SUSPECT: Liveness.SUSPECT,
    scheduler_pb2.LIVENESS_DEAD: Liveness.DEAD,
}
_CACHE_RESULTS = {
    state_pb2.CACHE_RESULT_HIT: CacheResult.HIT,
    state_pb2.CACHE_RESULT_COLD_START: CacheResult.COLD_START,
    state_pb2.CACHE_RESULT_JOIN: CacheResult.JOIN,
}
_PHASES = {
    worker_pb2.GENERATION_PHASE_QUEUED: Phase.QUEUED,
    worker_pb2.GENERATION_PHASE_LOADING: Phase.LOADING,
    worker_pb2.GENERATION_PHASE_PREFILL: Phase.PREFILL,
    worker_pb2.GENERATION_PHASE_DECODE: Phase.DECODE,
}
_EXACTNESS = {worker_pb2.EXACTNESS_EXACT: Exactness.EXACT, worker_pb2.EXACTNESS_APPROXIMATE: Exactness.APPROXIMATE}
_EXACTNESS_TO_WIRE = {exactness: wire for wire, exactness in _EXACTNESS.items()}
RESUME_POLICIES = {
    ResumePolicy.EXACT: worker_pb2.RESUME_POLICY_EXACT,
    ResumePolicy.FAST: worker_pb2.RESUME_POLICY_FAST,
    ResumePolicy.NEVER: worker_pb2.RESUME_POLICY_NEVER,
}
_FINISH_REASONS = {worker_pb2.FINISH_REASON_STOP: FinishReason.STOP, worker_pb2.FINISH_REASON_LENGTH: FinishReason.LENGTH}


def decision_from_wire(wire: scheduler_pb2.ScheduleResponse) -> Decision:
    """An action that this client does not know is taken as COLD_START: the model may have to be made ready."""
    return Decision(
        worker_id=wire.worker_id,
        action=_ACTIONS.get(wire.action, Action.COLD_START),
        estimated_wait_time=wire.estimated_wait_time,
        reason=wire.reason,
        worker_address=wire.worker_address,
        view_age_s=wire.view_age_s,
        decision_id=wire.decision_id,
        plane=_PLANES.get(wire.plane, Plane.UNKNOWN),
        request_id=wire.request_id,
        policy=wire.policy,
        waited_for_load=wire.waited_for_load,
        is_dry_run=wire.dry_run,
    )


def accepted_from_wire(wire: worker_pb2.GenerationAccepted) -> Accepted:
    return Accepted(
        wire.request_id,
        wire.worker_id,
        _CACHE_RESULTS.get(wire.cache_result),
        wire.queue_position,
        wire.seed if wire.HasField("seed") else None,
        wire.fingerprint,
        wire.resumed_from,
    )


def started_from_wire(wire: worker_pb2.GenerationStarted) -> Started:
    return Started(wire.fingerprint, _EXACTNESS.get(wire.exactness, Exactness.UNKNOWN), wire.approximate_because)


def progress_from_wire(wire: worker_pb2.Progress) -> Progress:
    return Progress(_PHASES.get(wire.phase, Phase.UNKNOWN), wire.ahead, wire.fraction, wire.eta_s)


def told_to_wire(told: Told) -> worker_pb2.Generated:
    """Raises nothing: what does not fit, the worker refuses."""
    return worker_pb2.Generated(
        ids=told.ids,
        text=told.text,
        tokens=len(told.tokens),
        fingerprint=told.fingerprint,
        resumes=told.resumes,
        exactness=_EXACTNESS_TO_WIRE.get(told.exactness, worker_pb2.EXACTNESS_UNSPECIFIED),
        approximate_because=told.approximate_because,
    )


def token_from_wire(wire: worker_pb2.Token) -> Token:
    return Token(wire.index, wire.id, wire.text)


def completed_from_wire(wire: worker_pb2.Completion) -> Completed:
    return Completed(
        finish_reason=_FINISH_REASONS.get(wire.finish_reason, FinishReason.UNKNOWN),
        usage=Usage(wire.usage.prompt_tokens, wire.usage.completion_tokens),
        timings=Timings(wire.timings.queued_s, wire.timings.load_s, wire.timings.prefill_s, wire.timings.decode_s),
        cache=_CACHE_RESULTS.get(wire.cache_result),
        resumes=wire.resumes,
        exactness=_EXACTNESS.get(wire.exactness, Exactness.UNKNOWN),
        approximate_because=wire.approximate_because,
    )


def _worker_from_wire(wire: scheduler_pb2.WorkerView) -> WorkerSnapshot:
    # A life this client has no word for is not one that gets work.
    return WorkerSnapshot(state_from_wire(wire.report), _LIVENESS.get(wire.liveness, Liveness.SUSPECT), wire.age_s, wire.reservations)


def _model_from_wire(wire: scheduler_pb2.ModelView) -> ModelSnapshot:
    entry = wire.model
    model = CatalogueModel(entry.name, entry.engine, entry.size_bytes, entry.simulated, entry.context_tokens)
    return ModelSnapshot(model, tuple(wire.ready_on), tuple(wire.loading_on), tuple(map(passed_over_from_wire, wire.passed_over)))


def passed_over_from_wire(wire: scheduler_pb2.PassedOverWorker) -> PassedOverWorker:
    return PassedOverWorker(wire.worker_id, wire.why, wire.retry_in_s)


def state_of_cluster_from_wire(wire: scheduler_pb2.GetClusterStateResponse) -> ClusterState:
    """Raises InvalidField if a worker's report in it is out of range."""
    return ClusterState(
        cache_hit_rate=wire.cache_hit_rate,
        total_requests=wire.total_requests,
        active_workers=wire.active_workers,
        average_gpu_utilization=wire.average_gpu_utilization,
        total_queue_depth=wire.total_queue_depth,
        workers=tuple(_worker_from_wire(worker) for worker in wire.workers),
        models=tuple(_model_from_wire(model) for model in wire.models),
        cache_hits=wire.cache_hits,
        cold_starts=wire.cold_starts,
        joins=wire.joins,
        policy=wire.policy,
        plane=_PLANES.get(wire.plane, Plane.UNKNOWN),
        version=wire.version,
    )


def outcome_from_wire(wire: coordinator_pb2.WorkerOutcome) -> WorkerOutcome:
    return WorkerOutcome(wire.worker_id, wire.elapsed_s, wire.unchanged)
