"""Between two workers that are as good as each other, a coin decides; else the policy does."""

from __future__ import annotations

import random
from collections import Counter

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import ModelStatus, Phase, WorkerState
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest


def chosen(view: ClusterView, count: int) -> Counter[str]:
    """What `count` deciders with this view and no memory choose for one request each."""
    rng = random.Random(5)
    placers = [Placer(view, rng=rng, decider=str(number), is_view_shared=True) for number in range(count)]
    return Counter(placer.decide(PlacementRequest("r", "a"), 0.0).worker_id for placer in placers)


def view_of(*queues: int, ready: int = 10) -> ClusterView:
    """Workers with these queues; the first `ready` of them have the model."""
    view = ClusterView()
    for number, queue_depth in enumerate(queues):
        models = {"a": ModelStatus("a", Phase.READY)} if number < ready else {}
        view.apply(WorkerState(f"w{number}", models, queue_depth=queue_depth, epoch=1), 0.0, is_streamed=True)
    return view


def test_near_equals_share_a_burst_of_many_deciders() -> None:
    counts = chosen(view_of(2, 3, 9), 200)
    assert set(counts) == {"w0", "w1"}
    assert 70 <= counts["w0"] <= 130


def test_a_worker_that_is_clearly_better_takes_all() -> None:
    assert chosen(view_of(2, 4, 9), 50) == {"w0": 50}


def test_a_worker_without_the_model_is_never_as_good() -> None:
    assert chosen(view_of(1, 0, ready=1), 50) == {"w0": 50}


def test_one_worker_is_chosen_without_a_second() -> None:
    assert chosen(view_of(5), 3) == {"w0": 3}
