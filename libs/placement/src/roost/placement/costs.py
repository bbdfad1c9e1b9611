"""What each worker would cost a request, and what making room there would cost others.

State: the time of the decision under way, and for each candidate what it could put out and how busy its models keep it, worked out again
after a report or VICTIMS_FOR_S.
A worker puts out models that nobody uses before models in use, and the cheapest of them first, as its own cache does (`worth_of_bytes`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from roost.placement.candidate import Candidate
from roost.placement.cost import Cost
from roost.placement.demand import cost_of_absence_s
from roost.placement.estimate import Estimate
from roost.placement.estimates import Estimates
from roost.placement.fleet import Fleet
from roost.placement.memory import Residents, Room, Victim, Weighed
from roost.placement.request import PlacementRequest

VICTIMS_FOR_S = 0.5  # a rate that fades over 30 s changes by less than 2 % meanwhile
# The first token comes after the prompt is read: 0.1 s of a request of 2.0 s (llm-d inference simulator, profile "small-l40s").
FIRST_TOKEN_SHARE = 0.05
# A model that was loaded stays for this many of its loads: those it was loaded for are served meanwhile, and a place that loads half of
# its time is still no worse than one that serves what nobody asks for.
RESIDENCY_LOADS = 0.5
BUSIEST = 0.9  # share of slots beyond which the mean queue, `busy / (1 - busy)`, is continued by its tangent: it ends at 1
# Copies that are busy for a larger share of their slots would let requests wait if one of them left.
SPARE_SHARE = 0.8


class Use(NamedTuple):
    """How a model is asked for: requests a second, seconds that each would hold a slot of one worker, and copies that are ready."""

    rate: float
    service_s: float
    copies: int


Priced = tuple[Cost, Estimate]
NO_ROOM_NEEDED = Room(0.0, 0.0)
_new_tuple = tuple.__new__  # half the time of the class that wraps it


class Costs:
    """Mutable, one owner (the placer), which sets `now` before each decision."""

    def __init__(self, fleet: Fleet, estimates: Estimates) -> None:
        self.estimates = estimates
        self.demand = estimates.demand
        self.now = 0.0
        self._fleet = fleet

    def of(self, candidate: Candidate, request: PlacementRequest, at_most: float = math.inf) -> Priced:
        """What the request would cost there, if it went there now, and the estimate that this is based on.

        Where that reaches `at_most` the parts that others pay may be left out: the sum of the rest has reached it.
        """
        estimates, model = self.estimates, request.model
        estimate = estimates.of(candidate, request, self.now)
        timing = candidate.state.timings.get(model)
        measured_s = 0.0 if timing is None else timing.service_time_s
        first_token_s = FIRST_TOKEN_SHARE * (measured_s or estimates.own_service_s(candidate, model))
        if estimate.load_s is None:
            cost = _new_tuple(Cost, (estimate.wait_s, 0.0, 0.0, 0.0, first_token_s, 0.0))
        else:
            cost = self._with_load(candidate, model, estimate, estimate.load_s, first_token_s, at_most)
        return cost, estimate

    def _with_load(self, candidate: Candidate, model: str, estimate: Estimate, load_s: float, first_token_s: float, at_most: float) -> Cost:
        queue_s = max(0.0, estimate.wait_s - load_s)
        if estimate.is_loading or candidate.reserved.by_model.get(model):
            return Cost(queue_s, load_s, first_token_s=first_token_s)
        load_s, memory_s = load_s - estimate.memory_s, estimate.memory_s
        own_s = queue_s + load_s + memory_s + first_token_s
        if own_s >= at_most:
            return Cost(queue_s, load_s, memory_s, 0.0, first_token_s)
        room = self.room(candidate, model)
        memory_s = max(memory_s, room.memory_s)
        own_s = queue_s + load_s + memory_s + first_token_s
        crowding_s = self.crowding_s(candidate, model) if own_s + room.eviction_s < at_most else 0.0
        return Cost(queue_s, load_s, memory_s, room.eviction_s, first_token_s, crowding_s)

    def has_room(self, candidate: Candidate, model: str) -> bool:
        """Whether the model fits beside all that is there."""
        return self.estimates.size_bytes(candidate, model) <= self.free_bytes(candidate)

    def room(self, candidate: Candidate, model: str) -> Room:
        """What has to happen on the worker before it can load a model that is not there."""
        size = self.estimates.size_bytes(candidate, model)
        rooms = self._weighed(candidate).rooms
        room = rooms.get(size)
        if room is None:
            short = size - self.free_bytes(candidate)
            room = rooms[size] = NO_ROOM_NEEDED if short <= 0 or not size else self._room(candidate, short)
        return room

    def _weighed(self, candidate: Candidate) -> Weighed:
        """What is known of its loads; its parts may be based on what was worked out VICTIMS_FOR_S before."""
        weighed = candidate.weighed
        if weighed is None or not 0 <= self.now - weighed.as_of <= VICTIMS_FOR_S:
            weighed = candidate.keep_weighed(Weighed(self.now))
        return weighed

    def _room(self, candidate: Candidate, short: float) -> Room:
        """For so many bytes more than are free."""
        memory_s = eviction_s = 0.0
        reserved = candidate.reserved.by_model
        for victim in self.victims(candidate):
            if victim.model in reserved and not victim.is_held:
                continue  # requests are on their way to it: it leaves last
            short -= victim.size_bytes
            eviction_s += victim.cost_s
            memory_s = max(memory_s, victim.leaves_in_s)
            if short <= 0:
                return Room(memory_s, eviction_s)
        for victim in self._leaving_last(candidate):
            short -= victim.size_bytes
            eviction_s += victim.cost_s
            memory_s = max(memory_s, victim.leaves_in_s)
            if short <= 0:
                break
        return Room(memory_s, eviction_s)

    def _leaving_last(self, candidate: Candidate) -> Iterator[Victim]:
        """Victims for which requests are on their way, then what the worker was told to load since its last report."""
        reserved = candidate.reserved.by_model
        for victim in self.victims(candidate):
            if victim.model in reserved and not victim.is_held:
                yield victim._replace(leaves_in_s=self.estimates.own_service_s(candidate, victim.model))
        for model in reserved:
            if model not in candidate.state.models:
                load_s = self.estimates.whole_load_s(candidate, model)
                size, cost_s = self.estimates.size_bytes(candidate, model), self.absence_s(candidate, model)
                yield Victim(True, 0.0, model, size, cost_s, (1.0 + RESIDENCY_LOADS) * load_s)

    def free_bytes(self, candidate: Candidate) -> float:
        """Memory that nothing holds and no decision under way will take; infinite where the worker has no bound."""
        weighed = self._weighed(candidate)
        if weighed.free_bytes is None:
            weighed.free_bytes = self._free_bytes(candidate)
        return weighed.free_bytes

    def _free_bytes(self, candidate: Candidate) -> float:
        free, models = candidate.unreserved_bytes, candidate.state.models
        if free is None:
            free = candidate.keep_unreserved(self._free_by_report(candidate))
        for model in candidate.reserved.by_model:
            if model not in models:
                free -= self.estimates.size_bytes(candidate, model)
        return free

    def _free_by_report(self, candidate: Candidate) -> float:
        state = candidate.state
        if not state.memory_capacity_bytes:
            return math.inf
        free = state.memory_capacity_bytes - state.memory_used_bytes
        for status in state.models.values():
            if not status.size_bytes:  # it waits for memory
                free -= self.estimates.size_bytes(candidate, status.name)
        return free

    def victims(self, candidate: Candidate) -> tuple[Victim, ...]:
        """What the worker could put out, first to go first."""
        return self._residents(candidate).victims

    def absence_s(self, candidate: Candidate, model: str) -> float:
        """Seconds that others are expected to wait if the model leaves the worker."""
        return self._absence_s(candidate, model, self._use(candidate, model))

    def _absence_s(self, candidate: Candidate, model: str, use: Use) -> float:
        rate, service_s, copies = use
        if copies > 1:
            if copies - 1 >= rate * service_s / candidate.state.slots / SPARE_SHARE:
                return 0.0
            rate /= copies
        return cost_of_absence_s(rate, self.estimates.whole_load_s(candidate, model))

    def _use(self, candidate: Candidate, model: str) -> Use:
        rate = self.demand.rate(model, self.now)
        return Use(rate, self.estimates.own_service_s(candidate, model), len(self._fleet.ready_on(model)))

    def crowding_s(self, candidate: Candidate, model: str) -> float:
        """Seconds that those who ask within one load are expected to wait for others' slots if the model comes to live there.

        What this request waits for slots there is in its queue already.
        """
        service_s, slots = self.estimates.own_service_s(candidate, model), candidate.state.slots
        busy = self.busy_share(candidate)
        ahead = busy / (1.0 - busy) if busy < BUSIEST else (busy - BUSIEST * BUSIEST) / (1.0 - BUSIEST) ** 2
        requests = self.demand.rate(model, self.now) * self.estimates.whole_load_s(candidate, model)
        return requests * ahead * service_s / slots

    def busy_share(self, candidate: Candidate) -> float:
        """The share of its slots that the demand for the models that are there, or are on their way, keeps busy on average."""
        weighed = self._weighed(candidate)
        if weighed.busy_slots is None:
            weighed.busy_slots = self._busy_slots(candidate)
        return weighed.busy_slots / candidate.state.slots

    def _busy_slots(self, candidate: Candidate) -> float:
        """Slots that the demand for the models that are there, or are on their way, keeps busy on average."""
        models = candidate.state.models
        coming = math.fsum([_busy_slots(self._use(candidate, name)) for name in candidate.reserved.by_model if name not in models])
        return self._residents(candidate).busy_slots + coming

    def _residents(self, candidate: Candidate) -> Residents:
        residents = candidate.residents
        if residents is None or not 0 <= self.now - residents.as_of <= VICTIMS_FOR_S:
            uses = {model: self._use(candidate, model) for model in candidate.state.models}
            victims = tuple(sorted(self._victims(candidate, uses)))
            residents = candidate.keep_residents(Residents(self.now, victims, math.fsum(map(_busy_slots, uses.values()))))
        return residents

    def _victims(self, candidate: Candidate, uses: Mapping[str, Use]) -> list[Victim]:
        found: list[Victim] = []
        for status in candidate.state.models.values():
            size, model = status.size_bytes, status.name
            if status.is_pinned or not size:
                continue
            cost_s = self._absence_s(candidate, model, uses[model])
            if status.is_ready:
                leaves_in_s = max(0.0, self.stays_until(candidate, model) - self.now)
            else:
                leaves_in_s = status.ready_in_s + RESIDENCY_LOADS * self.estimates.whole_load_s(candidate, model)
            is_held = leaves_in_s > 0
            if status.in_flight or status.queued:
                is_held = True
                leaves_in_s = max(leaves_in_s, self.estimates.own_service_s(candidate, model))
            found.append(Victim(is_held, cost_s / size, model, size, cost_s, leaves_in_s))
        return found

    def stays_until(self, candidate: Candidate, model: str) -> float:
        """A model that was loaded is not put out before then; minus infinity where nobody saw it become ready."""
        since = candidate.ready_since.get(model)
        return -math.inf if since is None else since + RESIDENCY_LOADS * self.estimates.whole_load_s(candidate, model)

    def __repr__(self) -> str:
        return f"<Costs at {self.now:.3f} s, {self.demand!r}>"


def _busy_slots(use: Use) -> float:
    """Slots of one of the holders that the demand for a model keeps busy, or would where there is none."""
    return use.rate * use.service_s / max(1, use.copies)
