"""Where a model is loaded when an operator wishes for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType

import pytest

from roost.cluster.errors import InvalidField, ModelTooLarge, NoWorkers, UnknownModel, UnknownWorker
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CatalogueModel, ModelStatus, Phase, WorkerState
from roost.placement.targets import LoadTargets, LoadWish, load_targets

MODEL = CatalogueModel("sim-a", "simulated", 100)
READY, LOADING, PINNED = (
    ModelStatus("sim-a", Phase.READY),
    ModelStatus("sim-a", Phase.LOADING),
    ModelStatus("sim-a", Phase.READY, is_pinned=True),
)


def worker(
    node_id: str, *models: ModelStatus, queue: int = 0, busy: int = 0, capacity: int = 1000, used: int = 0, draining: bool = False
) -> WorkerState:
    by_name = MappingProxyType({status.name: status for status in models})
    return WorkerState(
        node_id, by_name, queue, slots=2, busy_slots=busy, memory_capacity_bytes=capacity, memory_used_bytes=used, is_draining=draining
    )


def targets(
    workers: Iterable[WorkerState], wish: LoadWish, *, reserved: Callable[[str], int] = lambda _: 0, streamless: str = ""
) -> LoadTargets:
    view = ClusterView(catalogue=[MODEL])
    for state in workers:
        view.apply(state, 0.0, is_streamed=True)
    return load_targets(view, wish, reserved, lambda node_id: node_id != streamless)


@pytest.mark.parametrize(
    ("workers", "wish", "expected"),
    [
        ([worker("a", queue=1), worker("b")], LoadWish("sim-a"), LoadTargets((), ("b",))),
        ([worker("a", READY, queue=9), worker("b")], LoadWish("sim-a"), LoadTargets(("a",), ())),
        ([worker("a", READY), worker("b", queue=3), worker("c", busy=1)], LoadWish("sim-a", 2), LoadTargets(("a",), ("c",))),
        ([worker("a", LOADING, queue=3), worker("b")], LoadWish("sim-a"), LoadTargets((), ("a",))),
        ([worker("a", READY), worker("b", PINNED)], LoadWish("sim-a", is_pinned=True), LoadTargets(("b",), ())),
        ([worker("a", READY)], LoadWish("sim-a", is_pinned=True), LoadTargets((), ("a",))),
        ([worker("a", used=900), worker("b", used=100)], LoadWish("sim-a"), LoadTargets((), ("b",))),
        ([worker("a", capacity=50), worker("b", queue=5)], LoadWish("sim-a"), LoadTargets((), ("b",))),
        ([worker("a", draining=True), worker("b", queue=5)], LoadWish("sim-a"), LoadTargets((), ("b",))),
        ([worker("a", READY), worker("b")], LoadWish("sim-a", worker_id="b"), LoadTargets((), ("b",))),
        ([worker("a", READY), worker("b")], LoadWish("sim-a", worker_id="a"), LoadTargets(("a",), ())),
    ],
    ids=[
        "least-loaded",
        "ready-counts",
        "ready-plus-one",
        "loading-first",
        "pinned-counts",
        "pin-it",
        "free-memory",
        "too-small",
        "draining",
        "named",
        "named-ready",
    ],
)
def test_the_workers_that_are_chosen(workers: list[WorkerState], wish: LoadWish, expected: LoadTargets) -> None:
    assert targets(workers, wish) == expected


def test_decisions_on_their_way_count_as_load() -> None:
    assert targets([worker("a"), worker("b")], LoadWish("sim-a"), reserved={"a": 3, "b": 1}.__getitem__) == LoadTargets((), ("b",))


def test_a_worker_without_a_stream_is_not_chosen() -> None:
    assert targets([worker("a"), worker("b", queue=9)], LoadWish("sim-a"), streamless="a") == LoadTargets((), ("b",))


def test_too_few_workers_are_an_error_that_counts_them() -> None:
    with pytest.raises(NoWorkers, match=r"wanted on 3 worker\(s\): 1 of 2 available worker\(s\) have it ready and 1 more can load it"):
        targets([worker("a", READY), worker("b")], LoadWish("sim-a", 3))


def test_a_model_that_fits_nowhere_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ModelTooLarge, match="takes 100 bytes and the memory budget is 60 bytes"):
        targets([worker("a", capacity=50), worker("b", capacity=60)], LoadWish("sim-a"))


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownModel, match="sim-a"):
        targets([worker("worker-1")], LoadWish("sim-aa"))
    with pytest.raises(UnknownWorker, match="worker-1"):
        targets([worker("worker-1")], LoadWish("sim-a", worker_id="worker-2"))


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"model": ""}, "model"), ({"replicas": -1}, "replicas"), ({"replicas": 1001}, "replicas"), ({"worker_id": "a b"}, "worker_id")],
)
def test_a_wish_cannot_be_made_invalid(fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        LoadWish(**{"model": "sim-a", **fields})  # type: ignore[arg-type]
    assert caught.value.field == field
