"""The decider, with time passed in: what it is told and asked, and what comes of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from decider_histories import retold
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_cases import MODELS, timings, worker
from recorded_histories import History

from roost.cluster.errors import InvalidField, NoCapacity
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CacheResult, DecisionOutcome, WorkerState
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.effects import Answered
from roost.placement.facts import Reported, SilenceJudged
from roost.placement.plans.copies import TOLD_FOR_S, Copies
from roost.placement.plans.plan import Wish
from roost.placement.plans.registry import PLANS
from roost.placement.policies.policy import Patience
from roost.placement.registry import POLICIES, policy_names
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.txt"))


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
def test_a_history_comes_out_as_it_is_written_down(file: Path) -> None:
    """`python libs/placement/tests/support/decider_histories.py --rewrite libs/placement/tests/histories/*.txt` writes them anew."""
    assert retold(file.read_text()) == file.read_text()


def decider_of(*states: WorkerState, policy: str = "weighted-score", max_workers: int = 100) -> Decider:
    view = ClusterView(catalogue=MODELS, max_workers=max_workers)
    decider = Decider(view, Terms("c", policy), rng=random.Random(1))
    for state in states:
        decider.hear(Reported(state, is_streamed=True, stream=1), 0.0)
    decider.effects()
    return decider


def ask(decider: Decider, now: float = 0.1) -> Decision:
    answer = decider.ask(PlacementRequest("r", "llama-7b"), now)
    assert isinstance(answer, Decision)
    return answer


def test_an_older_life_is_told_which_later_one_is_known() -> None:
    decider = decider_of(worker("w", epoch=7))
    for late, later in ((worker("w", epoch=6, sequence=99), 7), (worker("w", epoch=7, sequence=1), 0)):
        assert not decider.hear(Reported(late, is_streamed=True, stream=2), 1.0)
        assert decider.later_epoch(late) == later


def test_an_outcome_drops_the_reservation_and_corrects_the_statistics() -> None:
    decider = decider_of(worker("w", "llama-7b"))
    decision = ask(decider)
    assert decider.placer.reserved("w") == 1
    outcome = DecisionOutcome(decision.decision_id, CacheResult.COLD_START)
    decider.hear(Reported(worker("w", "llama-7b", sequence=2, outcomes=(outcome,)), is_streamed=True, stream=1), 0.2)
    statistics = decider.placer.statistics
    assert decider.placer.reserved("w") == 0
    assert (statistics.hits, statistics.cold_starts, statistics.total_requests) == (0, 1, 1)


def test_a_stale_report_settles_nothing() -> None:
    decider = decider_of(worker("w", "llama-7b", sequence=5))
    outcome = DecisionOutcome(ask(decider).decision_id, CacheResult.HIT)
    assert not decider.hear(Reported(worker("w", sequence=4, outcomes=(outcome,)), is_streamed=True, stream=1), 0.2)
    assert decider.placer.reserved("w") == 1


def test_reservations_expire_with_time_alone() -> None:
    decider = decider_of(worker("w", "llama-7b"))
    ask(decider)
    decider.hear(SilenceJudged(), 9.0)
    assert decider.placer.reservations == 0


def test_one_worker_too_many_is_refused() -> None:
    decider = decider_of(worker("a"), max_workers=1)
    with pytest.raises(NoCapacity):
        decider.hear(Reported(worker("b"), is_streamed=True), 1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("aging_s", 0.0), ("longest_wait_s", float("inf")), ("reservation_bound_s", -1.0), ("capacity", 0), ("plans", ("hopes",))],
)
def test_terms_that_cannot_be_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidField, match=field):
        Terms("d", **{field: value})  # type: ignore[arg-type]


def test_the_aging_of_the_terms_orders_who_waits() -> None:
    orders = {}
    for aging_s in (0.1, 1000.0):
        decider = Decider(ClusterView(catalogue=MODELS), Terms("d", aging_s=aging_s), rng=random.Random(1))
        decider.ask(PlacementRequest("old", "llama-7b", 0, may_queue=True), 0.0)
        decider.ask(PlacementRequest("high", "llama-7b", 5, may_queue=True), 5.0)
        decider.hear(Reported(worker("w", "llama-7b", slots=2, timings=timings(llama_7b=(0.1, 2.0))), is_streamed=True), 6.0)
        orders[aging_s] = [each.ticket.request.request_id for each in decider.effects() if isinstance(each, Answered)]
    assert orders == {0.1: ["old", "high"], 1000.0: ["high", "old"]}


@pytest.mark.parametrize("policy", policy_names())
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_every_ticket_is_answered_once_or_given_up_and_nobody_waits_beyond_the_longest_wait(policy: str, seed: int) -> None:
    """The history removes each ticket when it is answered, and fails where it is none that waits."""
    history = History(policy, seed)
    history.go_on(200)
    waiting = history.decider.waiting
    assert len(history._tickets) == len(waiting) <= 9
    assert all(ticket in waiting for ticket in history._tickets)
    history.now += 4.0
    history._ring()
    assert len(waiting) == len(history._tickets) == 0
    assert history.decider.next_timer() is None


@pytest.mark.parametrize("registry", [POLICIES, PLANS], ids=["policies", "plans"])
def test_each_says_what_it_prefers_and_when_it_behaves_badly(registry: dict[str, object]) -> None:
    folder = Path(__file__).parents[1] / "src" / "roost" / "placement" / ("policies" if registry is POLICIES else "plans")
    texts = {file.stem: " ".join(file.read_text().split()) for file in folder.glob("*.py")}
    for name in registry:
        text = texts.get(name.replace("-", "_")) or texts[f"uniform_{name}"]
        assert "Prefers " in text
        assert "ehaves badly" in text


def test_a_copy_is_asked_for_once_until_its_worker_could_have_told() -> None:
    copies, cost = Copies(None), (0.0,)  # type: ignore[arg-type]  # it decides from nothing
    patience = Patience(0.1, cost, "w")  # type: ignore[arg-type]  # what it costs does not matter
    request = PlacementRequest("r", "a")
    told = [copies.waits(request, patience, now) for now in (0.0, 0.5 * TOLD_FOR_S, TOLD_FOR_S, 1.5 * TOLD_FOR_S)]
    assert [wish and wish[:2] for wish in told] == [("w", "a"), None, ("w", "a"), None]
    assert copies.waits(PlacementRequest("r", "b"), patience, 0.5) == Wish("w", "b", "waiting costs its requests more than a load")
    assert copies.waits(request, patience._replace(copy_to=""), 9.0) is None
