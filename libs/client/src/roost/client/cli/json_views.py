"""What --json prints: fixed names, every field present, numbers as numbers."""

from __future__ import annotations

from dataclasses import asdict

from roost.client.cli.running import Json
from roost.client.results import ClusterState, Decision, Generation, ModelSnapshot, Resumed, WorkerOutcome, WorkerSnapshot
from roost.cluster.worker_state import CacheCounters, CacheResult


def decision_json(decision: Decision) -> dict[str, Json]:
    """ScheduleResponse's own field names; the action and the plane without their prefixes."""
    return {
        "worker_id": decision.worker_id,
        "action": decision.action.name,
        "estimated_wait_time": decision.estimated_wait_time,
        "reason": decision.reason,
        "worker_address": decision.worker_address,
        "view_age_s": decision.view_age_s,
        "decision_id": decision.decision_id,
        "plane": decision.plane.name,
        "request_id": decision.request_id,
        "policy": decision.policy,
        "waited_for_load": decision.waited_for_load,
        "dry_run": decision.is_dry_run,
    }


def cache_json(cache: CacheResult | None) -> str:
    """hit, cold_start or join; unknown where the worker did not say."""
    return cache.value if cache is not None else "unknown"


def generation_json(generation: Generation) -> dict[str, Json]:
    last = generation.decisions[-1]
    return {
        "text": generation.text,
        "tokens": [{"index": token.index, "id": token.id, "text": token.text} for token in generation.tokens],
        "worker_id": generation.worker_id,
        "action": last.action.name,
        "reason": last.reason,
        "cache": cache_json(generation.cache),
        "attempts": generation.attempts,
        "usage": {"prompt_tokens": generation.usage.prompt_tokens, "completion_tokens": generation.usage.completion_tokens},
        "timings": {
            "queued_s": generation.timings.queued_s,
            "load_s": generation.timings.load_s,
            "prefill_s": generation.timings.prefill_s,
            "decode_s": generation.timings.decode_s,
        },
        "request_id": generation.request_id,
        "finish_reason": generation.finish_reason.value,
        "resumes": generation.resumes,
        "exactness": generation.exactness.value,
        "approximate_because": generation.approximate_because,
        "resumed": [resumed_json(resumed) for resumed in generation.resumed],
        "decisions": [decision_json(decision) for decision in generation.decisions],
    }


def resumed_json(resumed: Resumed) -> dict[str, Json]:
    return {
        "from_worker": resumed.from_worker,
        "to_worker": resumed.to_worker,
        "index": resumed.index,
        "exactness": resumed.exactness.value,
        "approximate_because": resumed.approximate_because,
    }


def worker_json(worker: WorkerSnapshot) -> dict[str, Json]:
    state = worker.state
    cache = state.cache or CacheCounters()
    return {
        "node_id": state.node_id,
        "liveness": worker.liveness.value,
        "age_s": worker.age_s,
        "loaded_models": list(state.ready_models),
        "queue_depth": state.queue_depth,
        "gpu_utilization": state.gpu_utilization,
        "gpu_source": state.gpu_source.value,
        "address": state.address,
        "slots": state.slots,
        "busy_slots": state.busy_slots,
        "draining": state.is_draining,
        "memory_capacity_bytes": state.memory_capacity_bytes,
        "memory_used_bytes": state.memory_used_bytes,
        "models": [
            {
                "name": model.name,
                "phase": model.phase.value,
                "size_bytes": model.size_bytes,
                "in_flight": model.in_flight,
                "queued": model.queued,
                "ready_in_s": model.ready_in_s,
                "pinned": model.is_pinned,
            }
            for model in sorted(state.models.values(), key=lambda model: model.name)
        ],
        "queue_by_priority": list(state.queue_by_priority),
        "reservations": worker.reservations,
        "cache": {
            "hits": cache.hits,
            "cold_starts": cache.cold_starts,
            "joins": cache.joins,
            "loads": cache.loads,
            "evictions": cache.evictions,
        },
        "epoch": state.epoch,
        "sequence": state.sequence,
    }


def model_json(snapshot: ModelSnapshot) -> dict[str, Json]:
    return {
        "name": snapshot.model.name,
        "engine": snapshot.model.engine,
        "size_bytes": snapshot.model.size_bytes,
        "simulated": snapshot.model.is_simulated,
        "context_tokens": snapshot.model.context_tokens,
        "ready_on": list(snapshot.ready_on),
        "loading_on": list(snapshot.loading_on),
        "passed_over": [asdict(each) for each in snapshot.passed_over],
    }


def state_json(state: ClusterState) -> dict[str, Json]:
    return {
        "cache_hit_rate": state.cache_hit_rate,
        "total_requests": state.total_requests,
        "active_workers": state.active_workers,
        "average_gpu_utilization": state.average_gpu_utilization,
        "total_queue_depth": state.total_queue_depth,
        "cache_hits": state.cache_hits,
        "cold_starts": state.cold_starts,
        "joins": state.joins,
        "policy": state.policy,
        "plane": state.plane.name,
        "version": state.version,
        "workers": [worker_json(worker) for worker in state.workers],
        "models": [model_json(model) for model in state.models],
    }


def outcomes_json(model: str, outcomes: tuple[WorkerOutcome, ...]) -> dict[str, Json]:
    return {
        "model": model,
        "outcomes": [
            {"worker_id": outcome.worker_id, "elapsed_s": outcome.elapsed_s, "unchanged": outcome.is_unchanged} for outcome in outcomes
        ],
    }
