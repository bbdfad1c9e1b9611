"""The lightest of many, against a scan."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from placement_cases import worker

from roost.cluster.view import ClusterView
from roost.placement.candidate import Candidate
from roost.placement.load_index import LoadIndex, lightest
from roost.placement.reservations import Tally


def candidates(count: int) -> list[Candidate]:
    view = ClusterView()
    return [Candidate(view.apply(worker(f"w{n}"), 0.0, is_streamed=True).entry, Tally()) for n in range(count)]


def queue_depth(candidate: Candidate) -> float:
    return candidate.queue_depth


@settings(max_examples=80, derandomize=True, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_lightest_is_what_a_scan_would_find(seed: int) -> None:
    rng = random.Random(seed)
    everyone = candidates(12)
    indexes = [LoadIndex(queue_depth) for _ in range(rng.choice([1, 3]))]
    filed: dict[Candidate, LoadIndex] = {}
    for _ in range(200):
        candidate = rng.choice(everyone)
        if candidate not in filed:
            filed[candidate] = rng.choice(indexes)
            filed[candidate].add(candidate)
        elif rng.random() < 0.1:
            filed.pop(candidate).remove(candidate)
        else:
            before = candidate.queue_depth
            candidate.queue_depth = rng.randrange(8)
            if candidate.queue_depth < before:
                filed[candidate].lighter(candidate)
        excluded = {rng.choice(everyone).node_id for _ in range(rng.randrange(3))}
        allowed = [candidate for candidate in filed if candidate.node_id not in excluded]
        found = lightest(indexes, rng, excluded)
        if allowed:
            assert found is not None
            assert found.node_id not in excluded
            assert found.queue_depth == min(candidate.queue_depth for candidate in allowed)
        else:
            assert found is None
    assert sum(len(index) for index in indexes) == len(filed)


def test_equals_over_several_indexes_are_equally_likely_though_some_are_filed_too_low() -> None:
    rng = random.Random(3)
    counts: Counter[str] = Counter()
    for _ in range(2_000):
        everyone = candidates(6)
        small, large = LoadIndex(queue_depth), LoadIndex(queue_depth)
        for number, candidate in enumerate(everyone):
            (small if number == 0 else large).add(candidate)
        everyone[5].queue_depth = 1  # heavier, and nobody told the index
        found = lightest([small, large], rng, {"w4"})
        assert found is not None
        counts[found.node_id] += 1
    assert set(counts) == {"w0", "w1", "w2", "w3"}
    assert all(abs(count - 500) < 100 for count in counts.values()), counts


def test_keys_that_are_used_up_are_not_kept() -> None:
    index = LoadIndex(queue_depth)
    (low, high) = candidates(2)
    index.add(low)
    high.queue_depth = 1_000_000
    index.add(high)
    for key in range(999_999, 990_000, -1):
        high.queue_depth = key
        index.lighter(high)
    assert len(index._heap) < 200
    assert len(index._buckets) == len(index._heap)
