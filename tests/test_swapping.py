"""More models than memory, on real processes: loads are shared, nothing that had room to wait is refused, priorities hold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from local_cluster import LocalCluster

from roost.client.client import RoostClient
from roost.client.results import Generation

pytestmark = pytest.mark.slow

MODEL = """
[models.{name}]
engine = "simulated"
source = "published"
size = "{size}"
limits = {{ parallel = 64 }}
options = {{ tier = "{tier}" }}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path, tmp_path / "models.toml", policy="expected-wait")
    yield made
    made.stop()


def start(cluster: LocalCluster, models: Sequence[str], *, size: str, tier: str, workers: int, memory: str, slots: int) -> None:
    assert cluster.models_file is not None
    cluster.models_file.write_text("".join(MODEL.format(name=name, size=size, tier=tier) for name in models))
    cluster.start_coordinator()
    for number in range(workers):
        cluster.start_worker(f"worker-{number}", "--memory", memory, "--slots", str(slots))
    cluster.await_live(workers)


async def at_once(cluster: LocalCluster, models: Sequence[str]) -> list[Generation]:
    """Every answer, or the first refusal."""
    async with RoostClient(cluster.address) as client:
        return await asyncio.gather(*(client.generate_text(name, "Once", max_tokens=1) for name in models))


def loads(cluster: LocalCluster) -> int:
    return sum(worker.report.cache.loads for worker in cluster.state().workers)


async def test_a_thousand_requests_at_once_for_one_absent_model_are_one_load_and_joins(cluster: LocalCluster) -> None:
    start(cluster, ["measured", "wanted"], size="1000MB", tier="sata-ssd", workers=3, memory="2GB", slots=64)
    await at_once(cluster, ["measured"])
    before = cluster.state()
    answers = await at_once(cluster, ["wanted"] * 1000)
    assert len(answers) == 1000
    after = cluster.state()
    assert loads(cluster) == 2, "one of them for the model that was there before"
    assert after.cache_hits - before.cache_hits == 0
    assert (after.cold_starts - before.cold_starts, after.joins - before.joins) == (1, 999)


async def test_fifty_absent_models_on_eight_places_share_loads_and_none_is_refused(cluster: LocalCluster) -> None:
    names = [f"sim-{number:02}" for number in range(50)]
    start(cluster, names, size="500MB", tier="published-safetensors-h100", workers=4, memory="1GB", slots=2)
    answers = await at_once(cluster, names * 4)
    assert len(answers) == 200
    assert 50 <= loads(cluster) <= 100, "the four that ask for a model wait for the same load, unless they come too late"


async def test_the_highest_priority_passes_a_queue_of_the_lowest_which_is_served_all_the_same(cluster: LocalCluster) -> None:
    start(cluster, ["sim-a"], size="8000MB", tier="published-serverlessllm-h100", workers=1, memory="9GB", slots=2)
    await at_once(cluster, ["sim-a"])
    async with RoostClient(cluster.address) as client, asyncio.TaskGroup() as tasks:
        ended: list[int] = []

        async def ask(priority: int) -> None:
            await client.generate_text("sim-a", "Once", max_tokens=1, priority=priority)
            ended.append(priority)

        for _ in range(300):
            tasks.create_task(ask(0))
        state = await asyncio.to_thread(cluster.await_state, lambda state: any(worker.report.busy_slots == 2 for worker in state.workers))
        assert state is not None
        for _ in range(4):
            tasks.create_task(ask(9))
    assert len(ended) == 304
    last_high = max(place for place, priority in enumerate(ended) if priority == 9)
    assert last_high < 200, "after what ran and was on its way by then, not after the queue"
