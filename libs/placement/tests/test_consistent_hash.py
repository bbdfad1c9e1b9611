"""consistent-hash: the same worker for the same model, but never far above the mean."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_cases import Case, idle_workers, worker

from roost.cluster.worker_state import CatalogueModel

NAMES = [f"model-{number}" for number in range(200)]


def test_the_same_model_goes_to_the_same_worker_while_it_has_room() -> None:
    first = {seed: Case("consistent-hash", idle_workers(10), seed).decide().worker_id for seed in range(5)}
    assert len(set(first.values())) == 1, "chance has no part in it"


@settings(derandomize=True, deadline=None)
@given(workers=st.integers(1, 12), requests=st.integers(1, 150))
def test_no_worker_is_above_the_bound_at_any_moment(workers: int, requests: int) -> None:
    case = Case("consistent-hash", idle_workers(workers))
    counts: Counter[str] = Counter()
    for number in range(1, requests + 1):
        counts[case.decide().worker_id] += 1
        assert max(counts.values()) <= math.ceil(1.25 * number / workers)


def test_what_workers_already_have_counts() -> None:
    loaded = Case("consistent-hash", idle_workers(4)).decide().worker_id
    states = [worker(f"worker-{n}", queue_depth=8 if f"worker-{n}" == loaded else 0) for n in range(4)]
    assert Case("consistent-hash", states).decide().worker_id != loaded


@pytest.mark.parametrize("gone", ["worker-0", "worker-7"])
def test_a_worker_that_goes_moves_only_its_own_models(gone: str) -> None:
    catalogue = tuple(CatalogueModel(name, "simulated", 1) for name in NAMES)
    case = Case("consistent-hash", [worker(f"worker-{number}", catalogue=catalogue) for number in range(10)])

    def homes(start: float) -> dict[str, str]:  # 10 s apart, so that every reservation is gone
        return {name: case.decide(name, now=start + 10.0 * number).worker_id for number, name in enumerate(NAMES)}

    before = homes(0.0)
    case.view.stream_lost(gone, 1, 1e4)
    after = homes(1e4)
    assert {name for name in NAMES if before[name] != after[name]} == {name for name in NAMES if before[name] == gone}


def test_models_are_spread_over_the_ring() -> None:
    catalogue = tuple(CatalogueModel(name, "simulated", 1) for name in NAMES)
    case = Case("consistent-hash", [worker(f"worker-{number}", catalogue=catalogue) for number in range(10)])
    counts = Counter(case.decide(name, now=10.0 * number).worker_id for number, name in enumerate(NAMES))
    assert len(counts) == 10
    assert max(counts.values()) <= 40
