"""Streams outlive the workers that make them: real processes are killed and stopped, and callers get every token once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from local_cluster import LocalCluster
from tiny_gguf import write_tiny_gguf

from roost.client import Completed, Exactness, Resumed, ResumePolicy, RoostClient, Scheduled, Token
from roost.client.requests import GenerateOptions
from roost.flow.terms import SILENCE_S

pytestmark = pytest.mark.slow

KILLS = 3
CALLERS = 6
WORKERS = 3
SETTINGS: tuple[GenerateOptions, ...] = (
    {"max_tokens": 300},
    {"max_tokens": 300, "temperature": 0.8, "seed": 5},
    {"max_tokens": 300, "temperature": 0.8, "top_p": 0.9, "top_k": 40, "seed": 2**32 - 1},
)
SIMULATED = """
[models.told]
engine = "simulated"
source = "published"
size = "100MB"
limits = { context_tokens = 2048, parallel = 8 }
options = { time_scale = 100.0, tier = "network-100gbe" }
"""
TINY = """
[models.told]
engine = "llamacpp"
source = "path:{path}"
limits = {{ context_tokens = 512, parallel = 4 }}
"""


@dataclass
class Story:
    """One generation as its caller got it. `pauses_s`: from the last token of a lost worker to the next one."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    resumed: list[Resumed] = field(default_factory=list)
    pauses_s: list[float] = field(default_factory=list)
    completed: Completed | None = None


@dataclass
class Callers:
    """Ask the same things over and over, and compare. State: all stories so far, tokens told in them, and by whom some are told now."""

    client: RoostClient
    stories: list[Story] = field(default_factory=list)
    tokens: int = 0
    telling: dict[int, str] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def story(self, number: int) -> Story:
        story, told_at, is_resumed, worker_id = Story(), time.monotonic(), False, ""
        options: GenerateOptions = {**SETTINGS[number % len(SETTINGS)], "resume": ResumePolicy.EXACT}  # however slow the machine is
        async with aclosing(self.client.generate("told", f"Story number {number}: once", **options)) as events:
            async for event in events:
                if isinstance(event, Token):
                    assert event.index == len(story.ids), "no token is left out or told twice"
                    story.ids.append(event.id)
                    story.text += event.text
                    now = time.monotonic()
                    if is_resumed:
                        story.pauses_s.append(now - told_at)
                    told_at, is_resumed = now, False
                    async with self.changed:
                        self.tokens += 1
                        self.telling[number] = worker_id
                        self.changed.notify_all()
                elif isinstance(event, Scheduled):
                    worker_id = event.decision.worker_id
                elif isinstance(event, Resumed):
                    assert event.index == len(story.ids)
                    story.resumed.append(event)
                    is_resumed = True
                elif isinstance(event, Completed):
                    story.completed = event
                    del self.telling[number]
        return story

    async def told(self, more: int) -> None:
        """Returns when so many tokens more were told."""
        wanted = self.tokens + more
        async with self.changed:
            await self.changed.wait_for(lambda: self.tokens >= wanted)

    async def told_by(self, worker_id: str) -> None:
        """Returns when that worker is in the middle of a story."""
        async with self.changed:
            await self.changed.wait_for(lambda: worker_id in self.telling.values())

    async def disturbed(self, trouble: Callable[[], Awaitable[None]], undisturbed: Mapping[int, Story]) -> list[Story]:
        """All stories told until the trouble was over, each of which is as it would have been without."""
        is_over = asyncio.Event()

        async def call(number: int) -> None:
            while not is_over.is_set():
                story, expected = await self.story(number), undisturbed[number]
                self.stories.append(story)
                assert story.completed is not None
                assert expected.completed is not None
                assert story.completed.usage == expected.completed.usage
                assert story.completed.resumes == len(story.resumed)
                assert story.completed.exactness is Exactness.EXACT
                assert (story.ids, story.text) == (expected.ids, expected.text)

        async with asyncio.TaskGroup() as callers:
            for number in range(CALLERS):
                callers.create_task(call(number))
            await trouble()
            is_over.set()
        return self.stories


async def killed_under_load(cluster: LocalCluster, kills: int) -> list[Story]:
    """Kills one worker after the other while all of them are told stories by, and starts it anew."""
    async with RoostClient(cluster.address) as client, asyncio.timeout(60 + 30 * kills):
        callers = Callers(client)
        undisturbed = {number: await callers.story(number) for number in range(CALLERS)}

        async def kill() -> None:
            for turn in range(kills):
                await callers.told(4 * CALLERS)
                victim = f"worker-{turn % WORKERS + 1}"
                await callers.told_by(victim)
                await asyncio.to_thread(cluster.kill, victim)
                await callers.told(4 * CALLERS)
                await asyncio.to_thread(cluster.start_worker, victim, "--memory", "2GB")
                await asyncio.to_thread(cluster.await_live, WORKERS)

        return await callers.disturbed(kill, undisturbed)


@pytest.fixture(params=["simulated", "llamacpp"])
def cluster(request: pytest.FixtureRequest, make_cluster: Callable[..., LocalCluster], tmp_path: Path) -> LocalCluster:
    """Three workers among which requests take turns, so that each has streams."""
    path = tmp_path / "models.toml"
    is_simulated = request.param == "simulated"
    path.write_text(SIMULATED if is_simulated else TINY.format(path=write_tiny_gguf(tmp_path / "tiny.gguf", blocks=4)))
    cluster = make_cluster(models_file=path, policy="round-robin")
    cluster.start_coordinator()
    for number in range(WORKERS):
        cluster.start_worker(f"worker-{number + 1}", "--memory", "2GB", "--drain-timeout", "0")
    cluster.await_live(WORKERS)
    return cluster


async def test_workers_that_are_killed_under_load_cost_no_caller_a_token(cluster: LocalCluster) -> None:
    stories = await killed_under_load(cluster, KILLS)
    assert sum(len(story.resumed) for story in stories) > 0


async def test_a_worker_that_is_told_to_end_hands_its_streams_over_and_exits_well(cluster: LocalCluster) -> None:
    async with RoostClient(cluster.address) as client, asyncio.timeout(120):
        callers = Callers(client)
        undisturbed = {number: await callers.story(number) for number in range(CALLERS)}
        codes = []

        async def end() -> None:
            for number in range(WORKERS):
                name = f"worker-{number + 1}"
                await callers.told_by(name)
                ending = cluster.workers[name]
                ending.terminate()
                codes.append(await asyncio.to_thread(ending.wait, 20))
                await asyncio.to_thread(cluster.start_worker, name, "--memory", "2GB", "--drain-timeout", "0")
                await asyncio.to_thread(cluster.await_live, WORKERS)

        stories = await callers.disturbed(end, undisturbed)
    assert codes == [0] * WORKERS
    assert any(story.resumed for story in stories)


async def test_a_worker_that_is_drained_hands_its_streams_over_when_its_grace_is_past(cluster: LocalCluster) -> None:
    async with RoostClient(cluster.address) as client, asyncio.timeout(120):
        callers = Callers(client)
        undisturbed = {number: await callers.story(number) for number in range(CALLERS)}

        async def drain() -> None:
            await callers.told_by("worker-1")
            await client.drain_worker("worker-1", grace_s=0.0)
            async with callers.changed:
                await callers.changed.wait_for(lambda: "worker-1" not in callers.telling.values())
            await client.drain_worker("worker-1", resume=True)

        stories = await callers.disturbed(drain, undisturbed)
    assert any(resumed.from_worker == "worker-1" for story in stories for resumed in story.resumed)


async def test_the_streams_of_a_worker_that_stands_still_go_on_elsewhere(cluster: LocalCluster) -> None:
    async with RoostClient(cluster.address) as client, asyncio.timeout(120):
        callers = Callers(client)
        undisturbed = {number: await callers.story(number) for number in range(CALLERS)}

        async def stop() -> None:
            await callers.told_by("worker-1")
            cluster.workers["worker-1"].send_signal(signal.SIGSTOP)
            try:
                async with callers.changed:
                    await callers.changed.wait_for(lambda: any(story.resumed for story in callers.stories))
            finally:
                cluster.workers["worker-1"].send_signal(signal.SIGCONT)

        stories = await callers.disturbed(stop, undisturbed)
    pauses_s = [pause_s for story in stories for pause_s in story.pauses_s]
    assert pauses_s
    assert all(SILENCE_S - 0.1 <= pause_s <= SILENCE_S + 3.0 for pause_s in pauses_s)
