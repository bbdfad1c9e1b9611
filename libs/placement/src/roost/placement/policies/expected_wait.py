"""The smallest expected time to the first token over all workers, with what others are expected to lose by it counted in.

Prefers a worker that has the model ready until waiting there costs more than a copy: then another worker loads it, the one where load,
memory and the models that must leave cost least. A load under way is joined, and not doubled until its queue would outlast another load.
Model affinity comes of what was measured: service and load times are those of the worker and the model. Behaves badly where nothing was
measured and nothing is stated, for then it believes its defaults; where several deciders each see part of the demand, for each then
believes evictions cheaper than they are; and with views that are older than a load takes, for then it counts on models that have gone.

How it finds the smallest without looking at all workers: those that have the model ready are indexed by their cost at priority 0, so the
best of them is exact at that priority; at higher ones, where fewer stand ahead, the NEAREST best are compared. Those that load it are all
looked at, up to a bound. Of the others it compares the least loaded, the one with most free memory, one drawn by chance, and the lightest
holders of the models that are cheapest to put out: six at most, so the choice among them may cost more than the best there is. In a
cluster of up to ALL_LOOKED_AT workers all are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from roost.placement.candidate import Candidate
from roost.placement.cost import Cost
from roost.placement.costs import FIRST_TOKEN_SHARE, Costs, Priced
from roost.placement.estimate import DEPENDS_ON_MODEL
from roost.placement.fleet import Fleet
from roost.placement.fleet_indexes import IndexByGroup, IndexByModel
from roost.placement.load_index import lightest
from roost.placement.policies.coming import Coming
from roost.placement.policies.load import load
from roost.placement.policies.policy import Choice, Patience, Policy, Waiting
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng
from roost.placement.sampling import draw

# A request is bound to a busy worker if it would wait there no longer than this: two reports at the rate at which they come at most, so
# that a slot that frees has its next request already, and not more, so that the best request can still be chosen.
LOOKAHEAD_S = 0.1
# Where there is free memory for a copy it is made a little before waiting costs more than copying: it puts out nobody, and a crowd's first
# tell little of its last.
COPY_HASTE = 1.1
# However fast it is: a worker refuses what its queue has no room for, and no report says how long that is. Its default is 256.
DEEPEST_QUEUE = 128
# A load that puts out a model in demand waits until those who wait for it have waited together as long as others are expected to wait
# because of it. It is the question whether to rent or to buy: who buys when the rent paid has reached the price never pays more than twice
# what the best would have paid.
PATIENCE = 1.0
NEGLIGIBLE_SHARE = 0.1  # of a load: losses that are not worth a delay
LOAD_WEIGHT_S = 1e-6
# Of four, requests of priorities 7-9 wait 3-6 % less and all together no less (20 workers that are busy for 0.8 or 0.9 of their time), and
# a decision costs a fifth more.
NEAREST = 2
ALL_LOOKED_AT = 8  # workers: of so few each is looked at
LOOKED_AT = 3  # holders of victims; each costs as much as the rest of a decision
DRAWN = 1  # by chance: where workers differ in ways that no index knows, such as in how fast they load, some of the best come up
VICTIM_ORDER_FOR_S = 0.25
ALONE = Waiting()
MAX_VICTIMS = 32  # of the order by cost that are worth keeping

Best = tuple[Candidate, Cost]
Considered = dict[Candidate, Priced]  # what has been priced for one question
_new_tuple = tuple.__new__  # a third of the time of the class that wraps it


class ExpectedWait(Policy):
    """State: the indexes, the loads that were decided and not seen yet, and the models that are cheapest to put out."""

    because = "is expected to start it soonest"
    is_patient = True

    def __init__(self, fleet: Fleet, rng: Rng, costs: Costs) -> None:
        self._fleet = fleet
        self._rng = rng
        self._costs = costs
        self._ready = IndexByModel(fleet, self._key_for)
        self._lightest = IndexByGroup(fleet, load)
        self._roomiest = IndexByGroup(fleet, self._fullness)
        self._coming = Coming(fleet)
        self._cheapest: tuple[str, ...] = ()
        self._cheapest_as_of = float("-inf")

    def choose(self, request: PlacementRequest, waiting: Waiting | None = None) -> Choice | Patience | None:
        considered: Considered = {}
        best = self._best(request, considered, ALONE if waiting is None else waiting)
        if best is None:
            return None
        candidate, cost = best
        if waiting is not None and (patience := self._patience(request, waiting, candidate, cost)) is not None:
            return patience
        return _new_tuple(Choice, (candidate, cost, considered))

    def taken(self, request: PlacementRequest, choice: Choice) -> None:
        self._coming.sending(choice.candidate, request.model)

    def _patience(self, request: PlacementRequest, waiting: Waiting, candidate: Candidate, cost: Cost) -> Patience | None:
        if candidate.queue_depth >= DEEPEST_QUEUE:
            return Patience(LOOKAHEAD_S, cost)
        if not self._has_or_loads(candidate, request.model):
            return None if waiting.is_due else self._patience_to_load(request, waiting, candidate, cost)
        if waiting.backlog:  # they are served first, whatever room there is for its priority
            return Patience(max(LOOKAHEAD_S, cost.queue_s), cost)
        if cost.load_s and self._is_ready_for(request):  # whoever is free first, the copy or another, can have it then
            return Patience(max(LOOKAHEAD_S, min(cost.queue_s, cost.load_s)), cost)
        if cost.load_s:  # the batch belongs to its load: who stays behind does not keep the model there, and it is put out before they come
            return None
        return Patience(cost.queue_s - LOOKAHEAD_S, cost) if cost.queue_s > LOOKAHEAD_S else None

    def _patience_to_load(self, request: PlacementRequest, waiting: Waiting, candidate: Candidate, cost: Cost) -> Patience | None:
        """Until there is memory, and until those who wait have waited as long as others will because of it; or until there is a copy."""
        is_copy = self._is_ready_for(request)
        if is_copy and waiting.can_tell:  # the worker loads it while the request waits, for this copy or for one that is there
            return Patience(LOOKAHEAD_S, cost, candidate.node_id)
        if cost.memory_s > LOOKAHEAD_S:
            return Patience(cost.memory_s - LOOKAHEAD_S, cost)
        loses_s = PATIENCE * cost.eviction_s
        if loses_s <= max(waiting.waited_s, NEGLIGIBLE_SHARE * cost.load_s) or is_copy:
            return None
        return Patience((loses_s - waiting.waited_s) / max(1.0, waiting.weight), cost)

    def _best(self, request: PlacementRequest, considered: Considered, waiting: Waiting) -> Best | None:
        """The choice and its cost."""
        holder = self._best_holder(request, considered)
        if holder is None:
            return self._best_without(request, considered, weight=waiting.weight) or self._anyone(request, considered)
        cost = holder[1]
        waits_s = cost.queue_s + cost.load_s + (waiting.backlog and self._backlog_s(holder[0], request, waiting.backlog))
        if not waits_s:
            return holder
        # A load costs at least what it takes, as far as this holder knows: nothing is looked for that cannot be cheaper.
        worth_s = COPY_HASTE * waits_s + cost.first_token_s
        if worth_s <= self._costs.estimates.whole_load_s(holder[0], request.model):
            return holder
        copy = self._best_without(request, considered, worth_s - cost.load_s)
        if copy is None:
            return holder
        if not self._costs.has_room(copy[0], request.model):
            worth_s = waits_s + cost.first_token_s
        return copy if copy[1].total_s + cost.load_s < worth_s else holder

    # --- those that have it, or will ----------------------------------------------------------------

    def _best_holder(self, request: PlacementRequest, considered: Considered) -> Best | None:
        """The best of those that have the model ready or are loading it."""
        best = self._best_ready(request, considered)
        if (best is not None and best[1].queue_s <= 0) or not self._coming.is_any(request.model):
            return best
        for candidate in self._coming.to(request):
            cost, _ = considered[candidate] = self._costs.of(candidate, request)
            if best is None or cost.own_s < best[1].own_s:
                best = (candidate, cost)
        return best

    def _best_ready(self, request: PlacementRequest, considered: Considered) -> Best | None:
        holders = self._ready.get(request.model)
        if holders is None:
            return None
        first = lightest((holders,), self._rng, request.excluded) if request.excluded else holders.lightest(self._rng)
        if first is None:
            return None
        cost, estimate = considered[first] = self._costs.of(first, request)
        best = (first, cost)
        if request.priority == 0 or cost.queue_s <= 0 or not estimate.ahead:  # it is next at its priority
            return best
        best_s, of, excluded = best[1].own_s, self._costs.of, request.excluded
        for other in holders.near(NEAREST):
            if other is first or other.node_id in excluded:
                continue
            cost, _ = considered[other] = of(other, request)
            own_s = cost.queue_s + cost.first_token_s  # it is ready there
            if own_s < best_s:
                best, best_s = (other, cost), own_s
        return best

    def _is_ready_for(self, request: PlacementRequest) -> bool:
        """Whether a worker that the request may go to has its model ready."""
        holders = self._fleet.ready_on(request.model)
        return not holders.keys() <= request.excluded if request.excluded else bool(holders)

    def _has_or_loads(self, candidate: Candidate, model: str) -> bool:
        return model in candidate.state.models or model in candidate.reserved.by_model

    def _backlog_s(self, holder: Candidate, request: PlacementRequest, backlog: int) -> float:
        model = request.model
        places = holder.state.slots * max(1, len(self._fleet.ready_on(model)) + len(self._fleet.loading_on(model)))
        return backlog * self._costs.estimates.own_service_s(holder, model) / places

    # --- those that would have to load it -------------------------------------------------------------

    def _best_without(
        self, request: PlacementRequest, considered: Considered, at_most: float = math.inf, *, weight: float = 1.0
    ) -> Best | None:
        """The cheapest of those that neither have the model nor are loading it, as far as they are looked at, if it is below `at_most`.

        A whole line of that `weight` waits for the load: what its first would wait itself, each of them does.
        """
        model = request.model
        best: Best | None = None
        seen: list[Candidate] = []
        for candidate in self._worth_a_look(request):
            if candidate in seen or self._has_or_loads(candidate, model):
                continue
            seen.append(candidate)
            cost, _ = considered[candidate] = self._costs.of(candidate, request, at_most)
            total_s = cost.total_s + (weight - 1.0) * cost.own_s if weight > 1.0 else cost.total_s
            if total_s < at_most:
                best = (candidate, cost)
                at_most = total_s
        return best

    def _worth_a_look(self, request: PlacementRequest) -> Iterator[Candidate]:
        if len(self._fleet) <= ALL_LOOKED_AT:
            yield from draw(self._fleet, request, self._rng, ALL_LOOKED_AT)  # in an order by chance: the first of equals is taken
            return
        for index in (self._lightest, self._roomiest):
            candidate = lightest(index.for_model(request.model), self._rng, request.excluded)
            if candidate is not None:
                yield candidate
        yield from draw(self._fleet, request, self._rng, DRAWN)
        groups = self._fleet.groups_for(request.model)
        left = LOOKED_AT
        for victim in self._victims():
            holders = self._ready.get(victim)
            candidate = None if holders is None or victim == request.model else holders.lightest(self._rng)
            if candidate is None or candidate.group not in groups or candidate.node_id in request.excluded:
                continue
            yield candidate
            left -= 1
            if left == 0:
                return

    def _victims(self) -> tuple[str, ...]:
        """The models that are cheapest to put out somewhere, cheapest first."""
        now = self._costs.now
        if not 0 <= now - self._cheapest_as_of <= VICTIM_ORDER_FOR_S:
            self._cheapest_as_of = now
            self._cheapest = tuple(sorted(self._fleet.ready_models(), key=self._absence_s)[:MAX_VICTIMS])
        return self._cheapest

    def _absence_s(self, model: str) -> float:
        holders = self._fleet.ready_on(model)
        return self._costs.absence_s(next(iter(holders.values())), model)

    def _anyone(self, request: PlacementRequest, considered: Considered) -> Best | None:
        candidate = lightest(self._lightest.for_model(request.model), self._rng, request.excluded)
        if candidate is None:
            return None
        cost, _ = considered[candidate] = self._costs.of(candidate, request)
        return candidate, cost

    # --- keys of the indexes: each only grows by a reservation -----------------------------------------

    def _key_for(self, model: str) -> Callable[[Candidate], float]:
        """The cost of one more request at priority 0 where the model is ready; between equals the load decides."""
        wait_of, service_of = self._costs.estimates.ready_wait_s, self._costs.estimates.own_service_s
        request = PlacementRequest("", model)

        def key(candidate: Candidate) -> float:
            base_s = candidate.base_s
            if base_s is None:
                base_s = wait_of(candidate, request) + LOAD_WEIGHT_S * candidate.outstanding / candidate.state.slots
                if candidate.plain is not DEPENDS_ON_MODEL:
                    candidate.keep_base(base_s)
            timing = candidate.state.timings.get(model)
            service_s = timing.service_time_s if timing is not None and timing.service_time_s else service_of(candidate, model)
            return base_s + FIRST_TOKEN_SHARE * service_s

        return key

    def _fullness(self, candidate: Candidate) -> float:
        return -self._costs.free_bytes(candidate)
