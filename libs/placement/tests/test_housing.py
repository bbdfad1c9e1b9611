"""Who lives with whom, with time passed in: what moves, when, and what does not."""

from __future__ import annotations

import pytest
from placement_cases import GB, Case

from roost.cluster.worker_state import ModelStatus, ModelTiming, Phase, WorkerState
from roost.placement.cost import Cost
from roost.placement.plans.housing import SETTLES_S, Housing
from roost.placement.plans.plan import Wish
from roost.placement.policies.policy import Patience
from roost.placement.request import PlacementRequest

LOAD_S = 0.5
ENOUGH_S = 100.0  # of waiting: pays for any move
NOW = 10.0


def full(node_id: str, *models: str) -> WorkerState:
    """One slot; every model takes half of what it has room for."""
    states = {name: ModelStatus(name, Phase.READY, 5 * GB) for name in models}
    timings = dict.fromkeys(("hot", "warm", "cool", "cold"), ModelTiming(0.1, LOAD_S))
    used = 5 * GB * len(models)
    return WorkerState(
        node_id, epoch=1, sequence=1, slots=1, models=states, timings=timings, memory_capacity_bytes=10 * GB, memory_used_bytes=used
    )


class Town:
    """Two full workers, and requests a second for each model."""

    def __init__(self, *states: WorkerState, **rates: int) -> None:
        self.case = Case("expected-wait", states)
        for tenth in range(int(10 * NOW)):
            for model, rate in rates.items():
                for _ in range(rate):
                    self.case.placer._estimates.demand.arrived(model, tenth / 10 * 1.0)
        self.plan = Housing(self.case.placer.ground)

    def asked(self, waits_s: float, now: float = NOW, model: str = "hot") -> Wish | None:
        self.case.placer.advance(now)
        return self.plan.asked(PlacementRequest("r", model), Patience(0.1, Cost(waits_s)), 0, now)


CROWDED = (full("w1", "hot", "warm"), full("w2", "cool", "cold"))


def test_a_crowded_model_moves_to_the_worker_where_it_crowds_less() -> None:
    town = Town(*CROWDED, hot=5, warm=4, cool=1, cold=0)
    wish = town.asked(ENOUGH_S)
    assert wish is not None
    assert (wish.node_id, wish.model) == ("w2", "hot")
    assert "cold leaves" in wish.why
    assert "w1 is asked for" in wish.why


@pytest.mark.parametrize(
    ("rates", "waits_s"),
    [
        ({"hot": 5, "warm": 4, "cool": 1}, 0.9 * LOAD_S),
        ({"hot": 9, "warm": 1, "cool": 1, "cold": 1}, ENOUGH_S),
        ({"hot": 3, "warm": 3, "cool": 3, "cold": 3}, ENOUGH_S),
    ],
    ids=["not paid for yet", "alone it would be no less busy there", "all are as busy"],
)
def test_nothing_moves_that_gains_nothing(rates: dict[str, int], waits_s: float) -> None:
    assert Town(*CROWDED, **rates).asked(waits_s) is None


def test_after_a_move_demand_is_looked_at_anew_before_the_next() -> None:
    town = Town(*CROWDED, hot=5, warm=4, cool=1, cold=0)
    assert town.asked(ENOUGH_S) is not None
    assert town.asked(ENOUGH_S, NOW + 0.9 * SETTLES_S) is None
    assert town.asked(ENOUGH_S, NOW + SETTLES_S) is not None, "nobody did as was told"


def test_while_models_wait_for_memory_nothing_is_moved() -> None:
    town = Town(*CROWDED, hot=5, warm=4, cool=1, cold=0)
    town.case.placer.advance(NOW)
    assert town.plan.waits(PlacementRequest("r", "absent"), Patience(0.1, Cost(0.0)), NOW) is None
    assert town.asked(ENOUGH_S, NOW + 0.5 * SETTLES_S) is None


def test_a_model_with_several_homes_is_left_where_it_is() -> None:
    town = Town(full("w1", "hot", "warm"), full("w2", "hot", "cool"), full("w3", "cold"), hot=5, warm=4)
    assert town.asked(ENOUGH_S) is None
