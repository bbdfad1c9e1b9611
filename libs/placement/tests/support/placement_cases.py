"""Small clusters for placement tests."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CatalogueModel, ModelStatus, ModelTiming, Phase, WorkerState
from roost.placement.decision import Decision
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest

GB = 1_000_000_000
MODELS = (CatalogueModel("llama-7b", "simulated", 13 * GB), CatalogueModel("phi-2", "simulated", 5 * GB))


def worker(node_id: str, *ready: str, **fields: object) -> WorkerState:
    """One report of a streaming worker with these models ready; `loading` maps names to seconds, `fields` are WorkerState's."""
    loading = fields.pop("loading", {})
    assert isinstance(loading, dict)
    models = {name: ModelStatus(name, Phase.READY, 5 * GB) for name in ready}
    models |= {name: ModelStatus(name, Phase.LOADING, 5 * GB, ready_in_s=seconds) for name, seconds in loading.items()}
    return WorkerState(node_id, **{"models": models, "epoch": 1, "sequence": 1, "catalogue": MODELS} | fields)  # type: ignore[arg-type]


def timings(**seconds: tuple[float, float]) -> dict[str, ModelTiming]:
    """Service and load times by model; underscores stand for dashes."""
    return {name.replace("_", "-"): ModelTiming(*pair) for name, pair in seconds.items()}


class Case:
    """A view of some workers, reported at time 0, and a placer on it."""

    def __init__(self, policy: str, workers: Iterable[WorkerState], seed: int = 7) -> None:
        self.view = ClusterView(catalogue=MODELS)
        self.placer = Placer(self.view, policy, rng=random.Random(seed), decider="d")
        for state in workers:
            self.view.apply(state, 0.0, is_streamed=state.epoch > 0)

    def decide(
        self, model: str = "llama-7b", *, now: float = 0.0, excluded: Iterable[str] = (), priority: int = 0, deadline_s: float = 0.0
    ) -> Decision:
        return self.placer.decide(PlacementRequest("r", model, priority, deadline_s=deadline_s, excluded=frozenset(excluded)), now)

    def burst(self, count: int, model: str = "llama-7b", excluded: Iterable[str] = ()) -> Counter[str]:
        """How many of `count` requests between two reports each worker gets."""
        return Counter(self.decide(model, excluded=excluded).worker_id for _ in range(count))


def idle_workers(count: int, *ready: str) -> list[WorkerState]:
    return [worker(f"worker-{number}", *ready) for number in range(count)]


# No two are ever equal: which of equals is found first is left to chance, and to where an index happens to keep them.
UNEQUAL = [
    worker(
        f"w{number}",
        *(("llama-7b",) if number < 3 else ()),
        timings=timings(llama_7b=(0.1 + 0.01 * number, 2.0 + number / 7), phi_2=(0.1, 3.0 + number / 7)),
        slots=slots,
        queue_depth=number,
        busy_slots=slots,
        gpu_utilization=number / 13,
    )
    for number, slots in enumerate((7, 11, 13, 17, 19, 23))
]
