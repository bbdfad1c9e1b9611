"""How long a request would wait on a candidate before it starts to run: what is known is used, what is not is stated here.

A slot is assumed to be freed every `service time / slots` seconds, so a request with `ahead` before it and `free` slots starts at the
`ahead + 1 - free`-th of these moments. A model that is not ready is loaded meanwhile; the requests that wait for the same load
start before this one. The wait is the later of the two.
"""

from __future__ import annotations

from typing import NamedTuple

from roost.cluster.view import ClusterView, WorkerEntry
from roost.cluster.worker_state import ModelStatus
from roost.placement.candidate import Candidate
from roost.placement.request import PlacementRequest

# A request on a worker that has measured none: 0.1 s to the first token and 128 tokens at 15 ms, a short answer of a small
# model on an L40S (llm-d inference simulator, profile "small-l40s").
DEFAULT_SERVICE_TIME_S = 2.0
# Bytes a second from an NVMe disk to the device by an ordinary loader: 13.3 GB in 4.9 s (opt-6.7b as safetensors on two PCIe 4 disks,
# ServerlessLLM's published benchmark).
DEFAULT_LOAD_BANDWIDTH = 2.7e9
# llama.cpp on a processor starts a child process first and then reads and repacks the weights: 1.2 s for 253 MB (Gemma 3 270M, two cores).
LLAMACPP_START_S = 1.0
LLAMACPP_LOAD_BANDWIDTH = 1.0e9
# A model whose size nobody stated: what 13.5 GB, a 7B model in 16 bits, takes at that bandwidth.
DEFAULT_LOAD_TIME_S = 5.0
MAX_LEARNED_MODELS = 10_000  # names for which measurements of any worker are kept


class Estimate(NamedTuple):
    """`wait_s` until the request starts, with `ahead` others waiting for a slot before it. `load_s` is None if the model is ready."""

    wait_s: float
    ahead: int
    load_s: float | None
    is_loading: bool


class Estimates:
    """State: the last measurement of each model that any worker reported, for workers that have none of their own."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self._service_time_s: dict[str, float] = {}
        self._load_time_s: dict[str, float] = {}

    def learn(self, entry: WorkerEntry) -> None:
        """Take over what a report measured."""
        for model, timing in entry.state.timings.items():
            if timing.service_time_s:
                _keep(self._service_time_s, model, timing.service_time_s)
            if timing.load_time_s:
                _keep(self._load_time_s, model, timing.load_time_s)

    def of(self, candidate: Candidate, request: PlacementRequest, now: float) -> Estimate:
        """What the request would wait on the candidate, if it went there now."""
        status = candidate.state.models.get(request.model)
        ahead = _ahead(candidate, request.priority)
        free = _free_slots(candidate, request.priority)
        if status is not None and status.is_ready:
            ahead = max(0, ahead - _waiting_for_loads(candidate))
            return Estimate(self._turn_s(candidate, request, ahead, free), max(0, ahead - free), None, is_loading=False)
        load_s = self._load_s(candidate, request.model, status, now)
        same_load = candidate.reserved.by_model.get(request.model, 0) + (0 if status is None else status.queued)
        wait_s = max(
            self._turn_s(candidate, request, ahead, free),
            load_s + self._turn_s(candidate, request, min(same_load, ahead), candidate.state.slots),
        )
        return Estimate(wait_s, max(0, ahead - free), load_s, is_loading=status is not None)

    def _turn_s(self, candidate: Candidate, request: PlacementRequest, ahead: int, free: int) -> float:
        """Seconds until a slot is left for a request with `ahead` before it."""
        turns = ahead + 1 - free
        if turns <= 0:
            return 0.0
        return turns * self._service_s(candidate, request.model) / candidate.state.slots

    def _service_s(self, candidate: Candidate, model: str) -> float:
        """Mean seconds that what runs and waits there holds a slot, by the worker's own measurements where it has any."""
        if candidate.service_time_s is None:
            candidate.service_time_s = _mean_service_s(candidate)
        return candidate.service_time_s or self._service_time_s.get(model, DEFAULT_SERVICE_TIME_S)

    def _load_s(self, candidate: Candidate, model: str, status: ModelStatus | None, now: float) -> float:
        """Seconds until the model would be ready there."""
        if status is not None and status.ready_in_s:
            return max(0.0, status.ready_in_s - candidate.entry.age_s(now))
        timing = candidate.state.timings.get(model)
        if timing is not None and timing.load_time_s:
            return timing.load_time_s
        measured_s = self._load_time_s.get(model)
        return self._unmeasured_load_s(candidate, model) if measured_s is None else measured_s

    def _unmeasured_load_s(self, candidate: Candidate, model: str) -> float:
        """By size. A catalogue's size of 0 says that it is served elsewhere and there is nothing to load."""
        catalogue = candidate.entry.catalogue
        known = (None if catalogue is None else catalogue.models.get(model)) or self._view.model(model)
        if known is None or (known.size_bytes == 0 and not known.engine):
            return DEFAULT_LOAD_TIME_S
        if known.engine == "llamacpp":
            return LLAMACPP_START_S + known.size_bytes / LLAMACPP_LOAD_BANDWIDTH
        return known.size_bytes / DEFAULT_LOAD_BANDWIDTH


def _ahead(candidate: Candidate, priority: int) -> int:
    """Waiting and reserved requests that are served before a new one of this priority."""
    state = candidate.state
    waiting = sum(state.queue_by_priority[priority:]) if state.queue_by_priority else state.queue_depth
    return waiting + candidate.reserved.at_or_above(priority)


def _free_slots(candidate: Candidate, priority: int) -> int:
    """Slots that are idle and not about to be taken by a reserved request of a lower priority, which gets there first."""
    earlier = candidate.reserved.count - candidate.reserved.at_or_above(priority)
    return max(0, candidate.state.slots - candidate.state.busy_slots - earlier)


def _waiting_for_loads(candidate: Candidate) -> int:
    """Waiting requests that a slot cannot serve yet, because their model is loading: a ready model's request passes them."""
    return sum(status.queued for status in candidate.state.models.values() if not status.is_ready) if candidate.state.queue_depth else 0


def _mean_service_s(candidate: Candidate) -> float:
    """Weighted by what is there; 0.0 if nothing of it was measured."""
    state = candidate.state
    requests = 0
    total_s = 0.0
    for name, timing in state.timings.items():
        status = state.models.get(name)
        if timing.service_time_s and status is not None:
            weight = status.in_flight + status.queued
            requests += weight
            total_s += weight * timing.service_time_s
    if requests:
        return total_s / requests
    measured = [timing.service_time_s for timing in state.timings.values() if timing.service_time_s]
    return sum(measured) / len(measured) if measured else 0.0


def _keep(table: dict[str, float], model: str, seconds: float) -> None:
    if model in table or len(table) < MAX_LEARNED_MODELS:
        table[model] = seconds
