"""Between worker.proto and the worker's own values."""

from __future__ import annotations

from collections.abc import Mapping

from roost.cluster.errors import InvalidField
from roost.cluster.worker_state import CacheResult
from roost.v1 import state_pb2, worker_pb2
from roost.worker.core.standing import GenerationPhase, Standing
from roost.worker.engines.interface import FinishReason, ResumePolicy
from roost.worker.generated import NOTHING, UNKNOWN_REASON, Generated
from roost.worker.generation import Accepted, Completed, GenerationEvent, GenerationRequest, NumberedToken, PhaseTimes, Started

CACHE_RESULTS = {
    CacheResult.HIT: state_pb2.CACHE_RESULT_HIT,
    CacheResult.COLD_START: state_pb2.CACHE_RESULT_COLD_START,
    CacheResult.JOIN: state_pb2.CACHE_RESULT_JOIN,
}
FINISH_REASONS = {FinishReason.STOP: worker_pb2.FINISH_REASON_STOP, FinishReason.LENGTH: worker_pb2.FINISH_REASON_LENGTH}

RESUME_POLICIES = {
    ResumePolicy.EXACT: worker_pb2.RESUME_POLICY_EXACT,
    ResumePolicy.FAST: worker_pb2.RESUME_POLICY_FAST,
    ResumePolicy.NEVER: worker_pb2.RESUME_POLICY_NEVER,
}
GENERATION_PHASES = {
    GenerationPhase.QUEUED: worker_pb2.GENERATION_PHASE_QUEUED,
    GenerationPhase.LOADING: worker_pb2.GENERATION_PHASE_LOADING,
    GenerationPhase.PREFILL: worker_pb2.GENERATION_PHASE_PREFILL,
    GenerationPhase.DECODE: worker_pb2.GENERATION_PHASE_DECODE,
}
_POLICIES_FROM_WIRE: Mapping[worker_pb2.ResumePolicy.ValueType, ResumePolicy] = {
    worker_pb2.RESUME_POLICY_UNSPECIFIED: ResumePolicy.FAST,
    **{wire: policy for policy, wire in RESUME_POLICIES.items()},
}


def generation_request_from_wire(wire: worker_pb2.GenerateRequest) -> GenerationRequest:
    """Raises InvalidField, named as on the wire."""
    return GenerationRequest(
        model=wire.model,
        prompt=wire.prompt,
        request_id=wire.request_id,
        priority=wire.priority,
        max_tokens=wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        seed=wire.seed if wire.HasField("seed") else None,
        stop=tuple(wire.stop),
        decision_id=wire.decision_id,
        waited_s=wire.waited_s,
        waited_for_load=wire.waited_for_load,
        generated=generated_from_wire(wire.generated) if wire.HasField("generated") else NOTHING,
        generation_id=wire.generation_id,
        attempt=wire.attempt,
        resume_policy=_policy_from_wire(wire.resume_policy),
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        repeat_penalty=wire.repeat_penalty,
    )


def _policy_from_wire(wire: worker_pb2.ResumePolicy.ValueType) -> ResumePolicy:
    policy = _POLICIES_FROM_WIRE.get(wire)
    if policy is None:
        raise InvalidField("resume_policy", f"has no value {wire}; it must be EXACT, FAST or NEVER")
    return policy


def generated_from_wire(wire: worker_pb2.Generated) -> Generated:
    """Raises InvalidField, named as on the wire."""
    is_approximate = wire.exactness == worker_pb2.EXACTNESS_APPROXIMATE
    return Generated(
        ids=tuple(wire.ids),
        text=wire.text,
        tokens=wire.tokens,
        fingerprint=wire.fingerprint,
        resumes=wire.resumes,
        approximate_because=(wire.approximate_because or UNKNOWN_REASON) if is_approximate else "",
    )


def generated_to_wire(generated: Generated) -> worker_pb2.Generated:
    return worker_pb2.Generated(
        ids=generated.ids,
        text=generated.text,
        tokens=generated.tokens,
        fingerprint=generated.fingerprint,
        resumes=generated.resumes,
        exactness=_exactness(generated.approximate_because),
        approximate_because=generated.approximate_because,
    )


def generation_request_to_wire(request: GenerationRequest) -> worker_pb2.GenerateRequest:
    return worker_pb2.GenerateRequest(
        model=request.model,
        prompt=request.prompt,
        request_id=request.request_id,
        priority=request.priority,
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed,
        stop=request.stop,
        decision_id=request.decision_id,
        waited_s=request.waited_s,
        waited_for_load=request.waited_for_load,
        generated=None if request.generated == NOTHING else generated_to_wire(request.generated),
        generation_id=request.generation_id,
        attempt=request.attempt,
        resume_policy=RESUME_POLICIES[request.resume_policy],
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repeat_penalty=request.repeat_penalty,
    )


def generation_event_to_wire(event: GenerationEvent) -> worker_pb2.GenerateResponse:
    match event:
        case NumberedToken(index, token_id, text):
            return worker_pb2.GenerateResponse(token=worker_pb2.Token(index=index, id=token_id, text=text))
        case Accepted():
            return worker_pb2.GenerateResponse(accepted=_accepted_to_wire(event))
        case Started(fingerprint, because):
            started = worker_pb2.GenerationStarted(fingerprint=fingerprint, exactness=_exactness(because), approximate_because=because)
            return worker_pb2.GenerateResponse(started=started)
        case Completed():
            return worker_pb2.GenerateResponse(completion=_completion_to_wire(event))


def standing_to_wire(standing: Standing) -> worker_pb2.GenerateResponse:
    progress = worker_pb2.Progress(
        phase=GENERATION_PHASES[standing.phase], ahead=standing.ahead, fraction=standing.fraction, eta_s=standing.eta_s
    )
    return worker_pb2.GenerateResponse(progress=progress)


def _exactness(approximate_because: str) -> worker_pb2.Exactness.ValueType:
    return worker_pb2.EXACTNESS_APPROXIMATE if approximate_because else worker_pb2.EXACTNESS_EXACT


def _accepted_to_wire(accepted: Accepted) -> worker_pb2.GenerationAccepted:
    return worker_pb2.GenerationAccepted(
        request_id=accepted.request_id,
        worker_id=accepted.worker_id,
        cache_result=CACHE_RESULTS[accepted.cache_result],
        queue_position=accepted.queue_position,
        seed=accepted.seed,
        fingerprint=accepted.fingerprint,
        resumed_from=accepted.resumed_from,
    )


def _completion_to_wire(completed: Completed) -> worker_pb2.Completion:
    return worker_pb2.Completion(
        finish_reason=FINISH_REASONS[completed.reason],
        usage=worker_pb2.Usage(prompt_tokens=completed.prompt_tokens, completion_tokens=completed.completion_tokens),
        timings=_times_to_wire(completed.times),
        cache_result=CACHE_RESULTS[completed.cache_result],
        resumes=completed.resumes,
        exactness=_exactness(completed.approximate_because),
        approximate_because=completed.approximate_because,
    )


def _times_to_wire(times: PhaseTimes) -> worker_pb2.Timings:
    return worker_pb2.Timings(queued_s=times.queued_s, load_s=times.load_s, prefill_s=times.prefill_s, decode_s=times.decode_s)
