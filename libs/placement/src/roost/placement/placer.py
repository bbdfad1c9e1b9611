"""Decides where requests run: check, choose, estimate, reserve, count.

State: what the parts own, and the number of the last decision. Invariants: each decision that is returned has one reservation and is
counted once, but for those of `preview`; a refused request leaves no trace. The placer follows the view: its owner applies reports to the
view and passes their outcomes to `settle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from roost.cluster.errors import DeadlineImpossible
from roost.cluster.view import ClusterView, WorkerEntry
from roost.cluster.worker_entry import is_later_life
from roost.cluster.worker_state import NOTHING_FAILS, DecisionOutcome
from roost.placement.costs import Costs
from roost.placement.decision import Action, Decision
from roost.placement.estimates import Estimates, LearnedSnapshot
from roost.placement.failures import Bars, Failures, PassedOver, without
from roost.placement.fleet import Fleet
from roost.placement.plans.plan import Ground
from roost.placement.policies.policy import Choice, Patience, Policy, Waiting
from roost.placement.reasons import reason
from roost.placement.records import DecisionRecords, Seen, seen_by
from roost.placement.refusals import refusal
from roost.placement.registry import DEFAULT_POLICY, MakePolicy, policy_factory
from roost.placement.request import PlacementRequest
from roost.placement.reservations import SIMPLE_REPORTER_BOUND_S, Reservation, Reservations
from roost.placement.rng import Rng
from roost.placement.statistics import PlacementStatistics
from roost.placement.turns import Turns
from roost.placement.two_choices import TwoChoices

NOTHING: frozenset[str] = frozenset()
Priced = Callable[[PlacementRequest, Choice | Patience, int, float], None]
_new_tuple = tuple.__new__  # a third of the time of the classes that wrap it
_SERVE = Action.SERVE  # an enum's member is looked up in Python each time it is named
_COLD_START = Action.COLD_START


class PlacerSnapshot(NamedTuple):
    """A placer written down. `now` is the time of its last call; `ready_since` tells when models were seen to become ready, by worker;
    `bars` what fails where.
    """

    decisions: int
    now: float
    reservations: tuple[tuple[str, Reservation], ...]
    learned: LearnedSnapshot
    ready_since: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    bars: Bars = ()


class Placer:
    """Mutable, one owner: what `Terms` say of a decider, part by part. `records`: where decisions are kept, to be explained.

    `make_policy` makes one that has no name in the registry; `policy` is then what decisions call it. Raises InvalidField if there is no
    such policy.
    """

    def __init__(  # noqa: PLR0913  # a decider has that many sides
        self,
        view: ClusterView,
        policy: str = DEFAULT_POLICY,
        *,
        rng: Rng,
        decider: str,
        reservation_bound_s: float = 5.0,
        is_view_shared: bool = False,
        lets_wait: bool = True,
        records: DecisionRecords | None = None,
        make_policy: MakePolicy | None = None,
    ) -> None:
        self._make_policy = make_policy or policy_factory(policy)
        self._view = view
        self.decider = decider
        self._decisions = 0
        self._reservations = Reservations(bound_s=reservation_bound_s)
        self._estimates = Estimates(view)
        self._fleet = Fleet(view, self._reservations.tally)
        self.failures = Failures()
        self._failing = self.failures.by_model  # asked with each decision, when nearly always nothing fails
        self.is_view_shared = is_view_shared
        self._lets_wait = lets_wait
        self.reservation_bound_s = reservation_bound_s
        self.policy = policy
        self.records = records
        self.priced: Priced | None = None  # hears what was chosen for each new request that will wait
        self._choose_by(rng, now=0.0)
        self.statistics = PlacementStatistics()
        view.subscribe(self._entry_changed)

    def _choose_by(self, rng: Rng, now: float) -> None:
        """A policy that knows nothing but the fleet."""
        self._costs = Costs(self._fleet, self._estimates)
        self._costs.now = now
        self._turns = Turns(self._fleet, self._estimates)
        self._rng = rng
        chosen = self._make_policy(self._fleet, rng, self._costs)
        self._policy: Policy = TwoChoices(chosen, rng) if self.is_view_shared and not chosen.is_spread else chosen
        # Looked up once, and not called where there is nothing to tell: each costs as much as a part of a decision.
        self._choose = self._policy.choose
        self._taken = None if type(chosen).taken is Policy.taken else self._policy.taken

    def snapshot(self) -> PlacerSnapshot:
        """What it has to know beside the view to go on. Of the policy's own state, such as whose turn it is, nothing is kept."""
        return PlacerSnapshot(
            self._decisions,
            self._costs.now,
            self._reservations.open(),
            self._estimates.snapshot(),
            tuple((name, tuple(since.items())) for name, since in self._fleet.ready_since()),
            self.failures.snapshot(),
        )

    def go_on(self, snapshot: PlacerSnapshot, rng: Rng) -> None:
        """From a snapshot and the view as it is: two placers that do so with equal ones decide alike from then on.

        All that a policy, an index or a sum has picked up on its way is made anew, which only shows where ties are broken.
        """
        self._decisions = snapshot.decisions
        self._reservations = Reservations(bound_s=self.reservation_bound_s)
        for decision_id, reservation in snapshot.reservations:
            self._reservations.make(decision_id, reservation)
        self._estimates = Estimates(self._view)
        self._estimates.restore(snapshot.learned)
        self.failures.go_on(snapshot.bars)
        self._fleet = Fleet(self._view, self._reservations.tally)
        for entry in self._view.entries.values():
            self._fleet.entry_changed(None, entry)
        for node_id, since in snapshot.ready_since:
            candidate = self._fleet.get(node_id)
            if candidate is not None:
                candidate.go_on(dict(since))
        self._choose_by(rng, snapshot.now)

    @property
    def reservations(self) -> int:
        """Decisions that no report has shown yet."""
        return len(self._reservations)

    def reserved(self, node_id: str) -> int:
        """Of these, the ones for one worker."""
        return self._reservations.count(node_id)

    @property
    def is_patient(self) -> bool:
        """Whether the policy lets requests wait here rather than for one worker."""
        return self._lets_wait and self._policy.is_patient

    def decide(self, request: PlacementRequest, now: float) -> Decision:
        """Choose a worker and reserve a place there.

        Raises UnknownModel, NoWorkers, ModelTooLarge, and DeadlineImpossible if the chosen worker would start it too late.
        """
        self.asked(request, now)
        passed_over: tuple[PassedOver, ...] = ()
        asked = request
        if request.model in self._failing:
            passed_over = self.passed_over(request, now)
            asked = without(request, passed_over)
        choice = self._choose(asked)
        if self.priced is not None:
            self._tell_price(asked, choice, 0, now)
        return self._place(request, choice, now, passed_over)

    def preview(self, request: PlacementRequest, now: float) -> Decision:
        """What `decide` would answer now, without an id: nothing is reserved, counted or kept in mind. Raises what `decide` raises.

        Which of equals it names is chance, and asking uses that up: a recording tells of previews, too.
        """
        self._pass(now)
        if not self._fleet.has_ready(request.model):
            self._view.check_known(request.model)
        passed_over = self.passed_over(request, now)
        return self._place(request, self._choose(without(request, passed_over)), now, passed_over, is_taken=False)

    def _tell_price(self, request: PlacementRequest, choice: Choice | Patience | None, backlog: int, now: float) -> None:
        """Of those that will wait for a slot or a load."""
        if self.priced is None or choice is None or choice.cost is None:
            return
        if choice.cost.queue_s > 0 or choice.cost.load_s > 0 or backlog or isinstance(choice, Patience):
            self.priced(request, choice, backlog, now)

    def asked(self, request: PlacementRequest, now: float) -> None:
        """Count a new request for its model. `decide` does so itself. Raises UnknownModel, and NoWorkers where none is live."""
        self._costs.now = now  # as `_pass` does
        if now >= self._reservations.next_expiry:
            self._pass(now)
        model = request.model
        if not self._fleet.has_ready(model):
            self._view.check_known(model)
        self._estimates.demand.arrived(model, now)

    def decide_or_wait(self, request: PlacementRequest, waiting: Waiting, now: float) -> Decision | Patience:
        """As `decide`, or that it is better to wait for another choice. The request was counted by `asked` before.

        Raises DeadlineImpossible, too, if it could not be served in time even now. One that has no time to wait does not wait.
        """
        self._pass(now)
        passed_over = self.passed_over(request, now) if request.model in self._failing else ()
        asked = without(request, passed_over) if passed_over else request
        choice = self._choose(asked, waiting if self._lets_wait else None)
        if self.priced is not None and waiting.is_new:
            self._tell_price(asked, choice, waiting.backlog, now)
        if isinstance(choice, Patience):
            if not 0 < request.deadline_s < choice.retry_in_s + choice.cost.own_s:
                return choice
            choice = self._choose(asked)
        return self._place(request, choice, now, passed_over)

    def passed_over(self, request: PlacementRequest, now: float) -> tuple[PassedOver, ...]:
        """Who could take the request but is not to be asked, because of what has failed there. No policy chooses them."""
        return self.failures.passed_over(request, self._fleet, now)

    def barred_for_s(self, request: PlacementRequest, now: float) -> float:
        """As `Failures.barred_for_s`."""
        return self.failures.barred_for_s(request, self._fleet, now)

    @property
    def ground(self) -> Ground:
        """What plans decide from."""
        return Ground(self._fleet, self._costs)

    def turn_s(self, model: str, lines: int, now: float) -> float:
        """How long the first of a line waits at most before its model's load is due, where so many lines wait."""
        return self._turns.turn_s(model, lines, now)

    def slots(self) -> int:
        """Of all workers that may get new work."""
        return sum(candidate.state.slots for candidate in self._fleet.candidates())

    def next_ready_in_s(self, models: Iterable[str]) -> float | None:
        """When the first load under way of one of the models is expected to end; None while none is."""
        loading = [each.state.models[model] for model in models for each in self._fleet.loading_on(model).values()]
        return min((status.ready_in_s for status in loading), default=None)

    def holders(self, model: str) -> int:
        """How many workers that may get new work have the model ready."""
        return len(self._fleet.ready_on(model))

    def ready_there(self, node_id: str) -> AbstractSet[str]:
        """The models that a worker has ready, if it may get new work."""
        candidate = self._fleet.get(node_id)
        return NOTHING if candidate is None else candidate.ready

    def may_take(self, node_id: str, model: str, excluded: AbstractSet[str]) -> bool:
        """True if the worker takes requests now and could run one for the model."""
        entry = self._view.entries.get(node_id)
        if entry is None or not entry.is_available:
            return False
        return node_id not in excluded and self._view.can_load(node_id, model)

    def _place(
        self,
        request: PlacementRequest,
        choice: Choice | Patience | None,
        now: float,
        passed_over: tuple[PassedOver, ...] = (),
        *,
        is_taken: bool = True,
    ) -> Decision:
        if choice is None:
            raise refusal(self._view, self._fleet, request, passed_over, now)
        if isinstance(choice, Patience):
            raise TypeError(f"{self.policy} lets a request wait that has no time to")
        chosen, cost, considered = choice
        estimate = self._estimates.of(chosen, request, now) if cost is None else considered[chosen][1]
        if 0 < request.deadline_s < estimate.wait_s and request.deadline_s < self._estimates.surely_s(estimate):
            raise DeadlineImpossible(request.deadline_s, estimate.wait_s)
        action, is_join = _SERVE, False
        if estimate.load_s is not None:
            action, is_join = _COLD_START, estimate.is_loading or request.model in chosen.reserved.by_model
        records = self.records if is_taken else None
        seen: Seen = [] if records is None else self._seen(choice, request.model)  # before there is a reservation
        decision_id = ""
        if is_taken:
            if self._taken is not None:
                self._taken(request, choice)
            self._decisions += 1
            decision_id = f"{self.decider}-{self._decisions}"
            reservation = _new_tuple(Reservation, (chosen.node_id, request.model, request.priority, now))
            self._reservations.make(decision_id, reservation, chosen.reserved)
            chosen.reserve()
            self.statistics.decided(decision_id, action, is_join=is_join)
        decision = _new_tuple(
            Decision,
            (
                decision_id,
                request.request_id,
                chosen.node_id,
                chosen.state.address,
                action,
                estimate.wait_s,
                reason(self._fleet, request, chosen, self._policy.because, estimate),
                max(0.0, now - chosen.entry.received_at),
                self.policy,
                False,
            ),
        )
        if records is not None:
            records.decided(request, decision, seen, now, passed_over)
        return decision

    def _seen(self, choice: Choice, model: str) -> Seen:
        considered = choice.considered
        return seen_by(considered, choice.candidate, () if considered else self._fleet.ready_on(model).values(), model)

    def settle(self, node_id: str, outcomes: Iterable[DecisionOutcome], now: float) -> None:
        """A worker reported which decisions have reached it: they are in its report now, and what they found is known."""
        self._pass(now)
        outcomes = tuple(outcomes)
        if self.records is not None:
            self.records.settled(outcomes, now)
        is_lighter = False
        for outcome in outcomes:
            self.statistics.settled(outcome)
            chosen = self._reservations.drop(outcome.decision_id)
            if chosen is not None and chosen != node_id:
                self._fleet.recount(chosen)
            is_lighter = is_lighter or chosen == node_id
        if is_lighter:
            self._fleet.recount(node_id)

    def seen(self, node_id: str, made_before: float) -> None:
        """A report that names no arrivals arrived, written late enough to count what was decided before then."""
        if self._reservations.drop_made_before(node_id, made_before):
            self._fleet.recount(node_id)

    def advance(self, now: float) -> None:
        """Drop the reservations that have reached the bound. `decide` and `settle` do so themselves."""
        self._pass(now)

    def _pass(self, now: float) -> None:
        """As `advance`, for what is under way: a recorded placer writes down what comes from outside."""
        self._costs.now = now
        if now >= self._reservations.next_expiry:
            for node_id in self._reservations.expire(now):
                self._fleet.recount(node_id)

    def _entry_changed(self, before: WorkerEntry | None, after: WorkerEntry | None) -> None:
        if after is None:
            if before is not None:
                self._fleet.entry_changed(before, None)
                self._reservations.forget(before.node_id)
                self.failures.forget(before.node_id)
            return
        if before is None or before.state is not after.state:
            self._drop_outdated(before, after)
            self._estimates.learn(after)
            if after.state.failing is not (NOTHING_FAILS if before is None else before.state.failing):
                self.failures.heard(after.state, after.received_at, self._rng)
        self._fleet.entry_changed(before, after)

    def _drop_outdated(self, before: WorkerEntry | None, after: WorkerEntry) -> None:
        """Reservations that this report answers: those it names, and unnamed ones of an earlier life or for a simple reporter."""
        state = after.state
        if before is not None and is_later_life(before.state, state):
            self._reservations.drop_made_before(state.node_id, float("inf"))
        elif state.outcomes:  # `settle` counts them; without their reservations the followers hear of this worker once, not twice
            self._reservations.drop_reached(state.node_id, state.outcomes)
        elif state.epoch == 0:
            self._reservations.drop_made_before(state.node_id, after.received_at - SIMPLE_REPORTER_BOUND_S)

    def __repr__(self) -> str:
        return f"<Placer {self.policy}, {self._fleet!r}, {self._reservations!r}, {self.statistics!r}>"
