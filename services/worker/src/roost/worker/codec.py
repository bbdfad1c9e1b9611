"""Between worker.proto and the worker's own values."""

from __future__ import annotations

from roost.cluster.worker_state import CacheResult
from roost.v1 import state_pb2, worker_pb2
from roost.worker.engines.interface import FinishReason
from roost.worker.generation import Accepted, Completed, GenerationEvent, GenerationRequest, NumberedToken, PhaseTimes

CACHE_RESULTS = {
    CacheResult.HIT: state_pb2.CACHE_RESULT_HIT,
    CacheResult.COLD_START: state_pb2.CACHE_RESULT_COLD_START,
    CacheResult.JOIN: state_pb2.CACHE_RESULT_JOIN,
}
FINISH_REASONS = {FinishReason.STOP: worker_pb2.FINISH_REASON_STOP, FinishReason.LENGTH: worker_pb2.FINISH_REASON_LENGTH}


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
    )


def generation_event_to_wire(event: GenerationEvent) -> worker_pb2.GenerateResponse:
    match event:
        case NumberedToken(index, token_id, text):
            return worker_pb2.GenerateResponse(token=worker_pb2.Token(index=index, id=token_id, text=text))
        case Accepted(request_id, worker_id, cache_result, queue_position):
            accepted = worker_pb2.GenerationAccepted(
                request_id=request_id,
                worker_id=worker_id,
                cache_result=CACHE_RESULTS[cache_result],
                queue_position=queue_position,
            )
            return worker_pb2.GenerateResponse(accepted=accepted)
        case Completed():
            return worker_pb2.GenerateResponse(completion=_completion_to_wire(event))


def _completion_to_wire(completed: Completed) -> worker_pb2.Completion:
    return worker_pb2.Completion(
        finish_reason=FINISH_REASONS[completed.reason],
        usage=worker_pb2.Usage(prompt_tokens=completed.prompt_tokens, completion_tokens=completed.completion_tokens),
        timings=_times_to_wire(completed.times),
        cache_result=CACHE_RESULTS[completed.cache_result],
    )


def _times_to_wire(times: PhaseTimes) -> worker_pb2.Timings:
    return worker_pb2.Timings(queued_s=times.queued_s, load_s=times.load_s, prefill_s=times.prefill_s, decode_s=times.decode_s)
