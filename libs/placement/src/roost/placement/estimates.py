"""How long a request would wait on a candidate before it starts to run: what is known is used, what is not is stated here.

A slot is assumed to be freed every `service time / slots` seconds, so a request with `ahead` before it and `free` slots starts at the
`ahead + 1 - free`-th of these moments. A model that is not ready is loaded meanwhile; the requests that wait for the same load
start before this one. The wait is the later of the two. Where fewer requests of a model run at once than there are slots, the same holds
of the model's places among its own requests, and again the later counts. A load begins when memory for it is free.
"""

from __future__ import annotations

from typing import NamedTuple

from roost.cluster.view import ClusterView, WorkerEntry
from roost.cluster.worker_state import CatalogueModel, ModelStatus
from roost.placement.candidate import Candidate
from roost.placement.demand import Demand, DemandSnapshot
from roost.placement.estimate import A_SLOT_IS_LEFT, DEPENDS_ON_MODEL, Estimate
from roost.placement.memory import held_memory
from roost.placement.occupancy import ahead_and_free, held_up_requests, mean_service_s
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
_new_tuple = tuple.__new__  # half the time of the class that wraps it
MAX_LEARNED_MODELS = 10_000  # names for which measurements of any worker are kept


class LearnedSnapshot(NamedTuple):
    """Estimates written down: seconds by model, their sum as it was added up, and the demand."""

    service_time_s: tuple[tuple[str, float], ...]
    load_time_s: tuple[tuple[str, float], ...]
    service_sum_s: float
    demand: DemandSnapshot


class Estimates:
    """State: the last measurement of each model that any worker reported, for workers that have none of their own; and the demand."""

    def __init__(self, view: ClusterView) -> None:
        self._view = view
        self.demand = Demand()
        self._service_time_s: dict[str, float] = {}
        self._service_sum_s = 0.0
        self._load_time_s: dict[str, float] = {}

    def learn(self, entry: WorkerEntry) -> None:
        """Take over what a report measured. Most reports say what is known, and cost a look at it."""
        service_time_s, load_time_s = self._service_time_s, self._load_time_s
        for model, timing in entry.state.timings.items():
            service_s, load_s = timing.service_time_s, timing.load_time_s
            if service_s and service_time_s.get(model) != service_s:
                self._service_sum_s += _keep(service_time_s, model, service_s)
            if load_s and load_time_s.get(model) != load_s:
                _keep(load_time_s, model, load_s)

    def snapshot(self) -> LearnedSnapshot:
        """All that was learned."""
        service_time_s, load_time_s = tuple(self._service_time_s.items()), tuple(self._load_time_s.items())
        return LearnedSnapshot(service_time_s, load_time_s, self._service_sum_s, self.demand.snapshot())

    def restore(self, snapshot: LearnedSnapshot) -> None:
        """Go on from what was learned, instead of what this one has."""
        self._service_time_s, self._load_time_s = dict(snapshot.service_time_s), dict(snapshot.load_time_s)
        self._service_sum_s = snapshot.service_sum_s
        self.demand.restore(snapshot.demand)

    def of(self, candidate: Candidate, request: PlacementRequest, now: float) -> Estimate:
        """What the request would wait on the candidate, if it went there now."""
        if request.model not in candidate.ready:
            return self._with_load(candidate, request, now)
        plain = candidate.plain or self._plain(candidate)
        if plain.wait_s == 0 or (plain.wait_s > 0 and not request.priority):  # a slot that is left is left at any priority
            return plain
        return self._of_ready(candidate, request)

    def _of_ready(self, candidate: Candidate, request: PlacementRequest) -> Estimate:
        model = request.model
        ahead, free = ahead_and_free(candidate, request.priority)
        status = candidate.state.models[model]
        held_up = candidate.held_up
        if held_up is None:
            held_up = held_up_requests(candidate)
        waiting = (max(ahead - held_up, min(status.queued, ahead)) if held_up else ahead) - free
        if 0 < status.max_parallel < candidate.state.slots:
            return self._among_its_own(candidate, request, status, ahead, waiting)
        if waiting < 0:
            return A_SLOT_IS_LEFT
        service_s = candidate.service_time_s or self._service_s(candidate, model)
        return _new_tuple(Estimate, ((waiting + 1) * service_s / candidate.state.slots, waiting, None, False, 0.0))

    def ready_wait_s(self, candidate: Candidate, request: PlacementRequest) -> float:
        """`of(...).wait_s` at priority 0 where the model is ready: what an index of holders asks for each of them with each report."""
        plain = candidate.plain or self._plain(candidate)
        return plain.wait_s if plain.wait_s >= 0 else self._of_ready(candidate, request).wait_s

    def _plain(self, candidate: Candidate) -> Estimate:
        """What a request at priority 0 waits for a slot where its model is ready, whichever it is."""
        return candidate.keep_plain(self._plain_anew(candidate))

    def _plain_anew(self, candidate: Candidate) -> Estimate:
        slots = candidate.state.slots
        has_limits = candidate.has_limits
        if has_limits is None:
            has_limits = candidate.keep_limits(
                has_limits=any(0 < status.max_parallel < slots for status in candidate.state.models.values())
            )
        if has_limits:
            return DEPENDS_ON_MODEL
        ahead, free = ahead_and_free(candidate, 0)
        waiting = ahead - free
        if waiting < 0:
            return A_SLOT_IS_LEFT
        if held_up_requests(candidate):
            return DEPENDS_ON_MODEL
        service_s = candidate.service_time_s
        if service_s is None:
            service_s = candidate.keep_service_time(mean_service_s(candidate))
        if not service_s:
            return DEPENDS_ON_MODEL
        return _new_tuple(Estimate, ((waiting + 1) * service_s / slots, waiting, None, False, 0.0))

    def _among_its_own(self, candidate: Candidate, request: PlacementRequest, status: ModelStatus, ahead: int, waiting: int) -> Estimate:
        """The estimate where the ready model runs fewer requests at once than there are slots; `waiting` is for a slot alone.

        Which priorities its own requests have is not known: those ahead of this one are at most all that are ahead.
        """
        model, places, reserved = request.model, status.max_parallel, candidate.reserved
        reserved_here = reserved.by_model.get(model, 0)
        get_there_first = min(reserved.count - reserved.at_or_above(request.priority), reserved_here)
        left = max(0, places - status.in_flight - get_there_first)
        waiting_here = min(status.queued + reserved_here, ahead) - left
        timing = candidate.state.timings.get(model)
        service_s = (timing.service_time_s if timing is not None else 0.0) or self._service_s(candidate, model)
        turn_s = (waiting_here + 1) * service_s / places
        return Estimate(max(0.0, turn_s, self._turns_s(candidate, model, waiting + 1)), max(0, waiting, waiting_here), None, False)

    def _with_load(self, candidate: Candidate, request: PlacementRequest, now: float) -> Estimate:
        """The estimate where the model is not ready."""
        model = request.model
        status = candidate.state.models.get(model)
        if status is None and model not in candidate.reserved.by_model:
            return self._with_first_load(candidate, request, now)
        ahead, free = ahead_and_free(candidate, request.priority)
        load_s = self._load_s(candidate, model, status, now)
        memory_s = self._memory_s(candidate, model, now) if status is None else 0.0
        load_s += memory_s
        places = candidate.state.slots
        if status is not None and status.max_parallel:
            places = min(places, status.max_parallel)
        same_load = candidate.reserved.by_model.get(model, 0) + (0 if status is None else status.queued)
        wait_s = max(
            self._turns_s(candidate, model, ahead + 1 - free),
            load_s + self._turns_s(candidate, model, min(same_load, ahead) + 1 - places, places),
        )
        return Estimate(wait_s, max(0, ahead - free), load_s, status is not None, memory_s)

    def _with_first_load(self, candidate: Candidate, request: PlacementRequest, now: float) -> Estimate:
        """The estimate where the request would be the first to wait for the model."""
        model = request.model
        memory_s = self._memory_s(candidate, model, now)
        load_s = self.whole_load_s(candidate, model) + memory_s
        plain = candidate.plain or self._plain(candidate)
        if plain.wait_s == 0 or (plain.wait_s > 0 and not request.priority):
            return Estimate(max(plain.wait_s, load_s), plain.ahead, load_s, False, memory_s)
        ahead, free = ahead_and_free(candidate, request.priority)
        slot_s = self._turns_s(candidate, model, ahead + 1 - free)
        return Estimate(max(slot_s, load_s), max(0, ahead - free), load_s, False, memory_s)

    def own_service_s(self, candidate: Candidate, model: str) -> float:
        """How long a request of this model holds a slot there: measured there, by any worker, as others there do, or the default."""
        timing = candidate.state.timings.get(model)
        measured_s = 0.0 if timing is None else timing.service_time_s
        return measured_s or self._service_time_s.get(model) or self._service_s(candidate, model)

    def _turns_s(self, candidate: Candidate, model: str, turns: int, places: int = 0) -> float:
        """Seconds until slots, or so many places, were freed that many times."""
        return turns * self._service_s(candidate, model) / (places or candidate.state.slots) if turns > 0 else 0.0

    def _service_s(self, candidate: Candidate, model: str) -> float:
        """Mean seconds that what runs and waits there holds a slot, by the worker's own measurements where it has any."""
        service_s = candidate.service_time_s
        if service_s is None:
            service_s = candidate.keep_service_time(mean_service_s(candidate))
        return service_s or self._service_time_s.get(model) or self._usual_service_s()

    def surely_s(self, estimate: Estimate) -> float:
        """What of the estimate is known: all of it, but for the waits for slots where nobody has measured yet how long a request takes."""
        return estimate.wait_s if self._service_time_s else estimate.load_s or 0.0

    def _usual_service_s(self) -> float:
        """The mean over all models that any worker has measured, else the default."""
        measured = len(self._service_time_s)
        return self._service_sum_s / measured if measured else DEFAULT_SERVICE_TIME_S

    def _load_s(self, candidate: Candidate, model: str, status: ModelStatus | None, now: float) -> float:
        """Seconds until the model would be ready there, once it has memory."""
        if status is not None and status.ready_in_s:
            return max(0.0, status.ready_in_s - candidate.entry.age_s(now))
        return self.whole_load_s(candidate, model)

    def whole_load_s(self, candidate: Candidate, model: str) -> float:
        """What a load takes: measured there, measured by any worker, expected by the catalogue, or by its size."""
        timing = candidate.state.timings.get(model)
        if timing is not None and timing.load_time_s:
            return timing.load_time_s
        measured_s = self._load_time_s.get(model)
        return self._unmeasured_load_s(candidate, model) if measured_s is None else measured_s

    def _unmeasured_load_s(self, candidate: Candidate, model: str) -> float:
        return _stated_load_s(self._known(candidate, model))

    def _memory_s(self, candidate: Candidate, model: str, now: float) -> float:
        """Seconds until the worker has memory for a model that is not there."""
        size_bytes = self.size_bytes(candidate, model)
        if not size_bytes or not candidate.state.memory_capacity_bytes:
            return 0.0
        held = candidate.held_memory
        if held is None:
            anew = held_memory(
                candidate.state,
                size_of=lambda name: self.size_bytes(candidate, name),
                load_s=lambda status: status.ready_in_s or self.whole_load_s(candidate, status.name),
                service_s=self._service_s(candidate, model),
            )
            held = candidate.keep_held_memory(anew)
        seconds = held.seconds_until(size_bytes)
        return max(0.0, seconds - candidate.entry.age_s(now)) if seconds else 0.0

    def size_bytes(self, candidate: Candidate, model: str) -> int:
        """What the model would take there, 0 if nobody knows."""
        known = self._known(candidate, model)
        return 0 if known is None else known.size_bytes

    def _known(self, candidate: Candidate, model: str) -> CatalogueModel | None:
        """The worker's own catalogue entry, else anybody's."""
        catalogue = candidate.entry.catalogue
        return (None if catalogue is None else catalogue.models.get(model)) or self._view.model(model)


def _stated_load_s(known: CatalogueModel | None) -> float:
    """As the worker expects, else by size. A catalogue's size of 0 says that it is served elsewhere and there is nothing to load."""
    if known is None or (known.size_bytes == 0 and not known.engine):
        return DEFAULT_LOAD_TIME_S
    if known.load_time_s:
        return known.load_time_s
    if known.engine == "llamacpp":
        return LLAMACPP_START_S + known.size_bytes / LLAMACPP_LOAD_BANDWIDTH
    return known.size_bytes / DEFAULT_LOAD_BANDWIDTH


def _keep(table: dict[str, float], model: str, seconds: float) -> float:
    """By how much the sum of the table changed."""
    before = table.get(model)
    if before is None and len(table) >= MAX_LEARNED_MODELS:
        return 0.0
    table[model] = seconds
    return seconds - (before or 0.0)
