"""A worker that cannot load: each model fails on it once, no caller hears of it, and when it is mended it is used again in time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from roost.placement.failures import LONGEST_BACKOFF_S, backoff_s
from roost.placement.registry import policy_names
from roost.sim import Ask, Delays, FailingLoads, Reports, Run, Simulation

MODELS = 12
DELAYS = Delays(ask_s=0.001, send_s=0.0005, reply_s=0.0005)
CENTRAL: dict[str, Any] = {"plane": "central", "reports": Reports()}
GOSSIP: dict[str, Any] = {"plane": "gossip", "gossip_model": "protocol"}


def simulation(policy: str, trace: list[Ask], *failing: FailingLoads, plane: dict[str, Any], cache_models: int = MODELS) -> Simulation:
    return Simulation(
        workers=2, slots=4, trace=trace, service=0.05, load=0.2, models=MODELS, cache_models=cache_models, warm=False, policy=policy,
        delays=DELAYS, may_queue=True, failing_loads=failing, seed=5, **plane,
    )  # fmt: skip


def in_turn(rounds: int, every_s: float) -> list[Ask]:
    return [Ask(1.0 + number * every_s, number % MODELS) for number in range(rounds * MODELS)]


def tries_that_failed(run: Run) -> Counter[str]:
    """By model: how many attempts more than one its requests took."""
    failed: Counter[str] = Counter()
    for record in run.ledger.records():
        failed[record.model] += record.attempts - 1
    return +failed


@pytest.mark.parametrize("plane", [CENTRAL, GOSSIP], ids=["central", "gossip"])
@pytest.mark.parametrize("policy", policy_names())
def test_a_worker_that_can_load_nothing_fails_each_model_seldom_and_no_caller(policy: str, plane: dict[str, Any]) -> None:
    made = simulation(policy, in_turn(8, 0.5), FailingLoads(worker=1), plane=plane)
    run = made.run()
    assert len(list(run.ledger.served())) == 8 * MODELS
    rounds_s = MODELS * 0.5
    # After its n-th failure a model is not tried there before the backoff is over, and then by the next request for it at the soonest.
    tries, at_s = 0, 0.0
    while at_s < 8 * rounds_s:
        tries += 1
        at_s += max(rounds_s, 0.75 * backoff_s(tries))
    assert max(tries_that_failed(run).values(), default=0) <= tries


@pytest.mark.parametrize("plane", [CENTRAL, GOSSIP], ids=["central", "gossip"])
def test_under_expected_wait_each_model_fails_once_at_most(plane: dict[str, Any]) -> None:
    run = simulation("expected-wait", in_turn(8, 0.5), FailingLoads(worker=1), plane=plane).run()
    assert len(list(run.ledger.served())) == 8 * MODELS
    assert max(tries_that_failed(run).values(), default=0) <= 1


@pytest.mark.parametrize("plane", [CENTRAL, GOSSIP], ids=["central", "gossip"])
@pytest.mark.parametrize("policy", ["expected-wait", "affinity", "weighted-score"])
def test_an_empty_worker_that_can_load_nothing_attracts_nobody_twice_within_a_backoff(policy: str, plane: dict[str, Any]) -> None:
    """The other one has room for three models, so each request is cold, and goes where nothing is put out for it."""
    run = simulation(policy, in_turn(8, 0.25), FailingLoads(worker=1), plane=plane, cache_models=3).run()
    assert len(list(run.ledger.served())) == 8 * MODELS
    # Each is asked for every 3 s, 8 times: after 0, 3 and 6 s there, not after 9 s, after 12 s, not after 15 and 18 s, after 21 s.
    assert max(tries_that_failed(run).values()) <= 5


@pytest.mark.parametrize("policy", policy_names())
def test_a_worker_that_is_mended_is_used_again_within_its_backoff(policy: str) -> None:
    """All is asked of one worker, for the other one falls: nobody is told before it can be served."""
    mended_s = 20.0
    trace = [Ask(1.0 + 0.5 * number, 0) for number in range(120)]
    run = simulation(policy, trace, FailingLoads(0, until_s=mended_s), FailingLoads(1, until_s=mended_s), plane=CENTRAL).run()
    served = [run.ledger.arrival_s[number] + run.ledger.sojourn_s[number] for number in run.ledger.served()]
    longest_s = backoff_s(6)  # 1 + 2 + 4 + 8 + 16 s are past the time at which they were mended
    assert min(served) <= mended_s + longest_s < LONGEST_BACKOFF_S
    late = [number for number in range(len(run.ledger)) if run.ledger.arrival_s[number] > mended_s + longest_s]
    assert late
    assert set(late) <= set(run.ledger.served())


@pytest.mark.parametrize("failing", [FailingLoads(2), FailingLoads(0, (MODELS,))])
def test_a_worker_or_a_model_that_there_is_not_is_refused(failing: FailingLoads) -> None:
    with pytest.raises(ValueError, match="failing_loads name"):
        simulation("affinity", [], failing, plane=CENTRAL)


def test_times_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="until_s not before from_s"):
        FailingLoads(0, from_s=2.0, until_s=1.0)
