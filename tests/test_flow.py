"""What callers see when deciders fall and when there is too much to do, on real processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from local_cluster import LocalCluster

from roost.client import RoostClient
from roost.cluster.errors import DeadlineImpossible, RoostError

pytestmark = pytest.mark.slow

CALLERS = 12
SLOW = """
[models.slow]
engine = "simulated"
source = "published"
size = "100MB"
options = { time_scale = 20.0, profile = "small-l40s" }
"""


def started(cluster: LocalCluster, *worker_args: str) -> LocalCluster:
    cluster.start_coordinator()
    for number in (1, 2):
        cluster.start_worker(f"worker-{number}", *worker_args)
    cluster.await_live(2)
    return cluster


async def test_a_coordinator_that_is_killed_and_started_anew_costs_callers_with_time_no_failures(
    make_cluster: Callable[..., LocalCluster], simulated_models: Path
) -> None:
    cluster = started(make_cluster(models_file=simulated_models, policy="expected-wait"), "--memory", "1GB")
    answers: Counter[str] = Counter()
    answered, is_enough = asyncio.Condition(), asyncio.Event()

    async def ask(client: RoostClient, model: str) -> None:
        while not is_enough.is_set():
            await client.generate_text(model, "Once", max_tokens=2, timeout_s=20.0)  # an error ends the test
            async with answered:
                answers[model] += 1
                answered.notify_all()

    async def fall_and_rise() -> None:
        for _ in range(3):
            wanted = answers.total() + 2 * CALLERS
            await asyncio.to_thread(cluster.kill, "coordinator")
            await asyncio.to_thread(cluster.start_coordinator)
            async with answered:
                await answered.wait_for(lambda: answers.total() >= wanted)  # noqa: B023  # it is waited for in this turn
        is_enough.set()

    async with RoostClient(cluster.address) as client, asyncio.timeout(90), asyncio.TaskGroup() as callers:
        for number in range(CALLERS):
            callers.create_task(ask(client, f"sim-{'abc'[number % 3]}"))
        callers.create_task(fall_and_rise())
    assert answers.total() >= 3 * 2 * CALLERS


async def test_what_cannot_begin_in_time_is_refused_at_once_and_the_others_are_served(
    make_cluster: Callable[..., LocalCluster], tmp_path: Path
) -> None:
    path = tmp_path / "slow.toml"
    path.write_text(SLOW)
    cluster = started(make_cluster(models_file=path, policy="expected-wait"), "--slots", "1", "--memory", "1GB")
    ended: Counter[str] = Counter()
    async with RoostClient(cluster.address) as client:
        for _ in range(6):  # how long it takes is measured then, by both sides
            await asyncio.gather(*(client.generate_text("slow", "Once", max_tokens=40) for _ in range(2)))

        async def ask() -> None:
            try:
                await client.generate_text("slow", "Once", max_tokens=40, timeout_s=8.0)
                ended["ok"] += 1
            except RoostError as error:
                ended[type(error).__name__] += 1

        await asyncio.gather(*(ask() for _ in range(200)))  # tens of them would have to wait for longer than they can
    assert ended["ok"] > 0
    assert ended[DeadlineImpossible.__name__] > 0
