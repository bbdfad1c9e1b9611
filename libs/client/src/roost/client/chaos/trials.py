"""One trial of a row: a cluster of its own, load on it, the faults, and what callers had of it."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Final

from roost.client.chaos.callers import Callers
from roost.client.chaos.core.report import Result, Trial
from roost.client.chaos.core.rows import Row, schedule
from roost.client.chaos.faults import carry_out
from roost.client.client import RoostClient
from roost.client.local.cluster import StartFailed, start, wait_registered
from roost.client.local.plan import ClusterOptions, Mode, plan_cluster
from roost.client.local.ports import free_ports
from roost.client.local.processes import local_processes

WORKERS: Final = 3
CALLERS: Final = 6  # half of what two workers serve at once: a fault leaves room for all
START_S: Final = 60.0  # three Python processes on a busy machine
QUIET_S: Final = 1.0  # of load before anything happens
HOST: Final = "127.0.0.1"
MODEL: Final = "told"
CATALOGUE: Final = """
[models.told]
engine = "simulated"
source = "published"
size = "100MB"
limits = { context_tokens = 2048, parallel = 8 }
options = { time_scale = 100.0, tier = "network-100gbe" }
"""


async def run_row(row: Row, *, trials: int, seed: int, duration_s: float) -> Result:
    """The row, `trials` times, each with faults drawn from (seed, row, trial). Skipped by name where this Roost lacks its mode."""
    if row.mode not in set(Mode):
        return Result(row, seed, skipped=f"this Roost has no mode {row.mode}")
    done: list[Trial] = []
    broken: list[str] = []
    for trial in range(trials):
        try:
            done.append(await run_trial(row, rng=random.Random(f"{seed} {row.name} {trial}"), duration_s=duration_s))  # noqa: S311
        except* StartFailed as group:
            broken += map(str, group.exceptions)
        except* TimeoutError:
            broken.append("a process did not end in time")
    return Result(row, seed, tuple(done), broken=tuple(broken))


async def run_trial(row: Row, *, rng: random.Random, duration_s: float) -> Trial:
    """Raises StartFailed where the cluster does not come up, TimeoutError where a process does not end."""
    with tempfile.TemporaryDirectory(prefix="roost-chaos-") as folder:
        models = Path(folder, "models.toml")
        await asyncio.to_thread(models.write_text, CATALOGUE)
        options = _options(row, str(models))
        plans = plan_cluster(options)
        async with local_processes(Path(folder)) as processes, RoostClient(options.targets) as client:
            await start(processes, plans, HOST)
            await wait_registered(processes, client, bound_s=START_S, on_progress=lambda _: None)
            callers, is_over = Callers(client, MODEL), asyncio.Event()
            expected = [await callers.undisturbed(number) for number in range(CALLERS)]
            faults = schedule(row, workers=WORKERS, begins_s=QUIET_S, rng=rng)
            loop = asyncio.get_running_loop()
            begins = loop.time()
            async with asyncio.TaskGroup() as tasks:
                for number in range(CALLERS):
                    tasks.create_task(callers.call(number, expected[number], is_over))
                loop.call_at(begins + faults[0].at_s, lambda: callers.pauses.begin(loop.time()))
                await carry_out(faults, processes, plans, begins)
                await asyncio.sleep(begins + duration_s - loop.time())
                is_over.set()
            return callers.measured()


def _options(row: Row, models: str) -> ClusterOptions:
    first = free_ports(1 + 3 * WORKERS)
    return ClusterOptions(
        workers=WORKERS,
        host=HOST,
        coordinator_port=first,
        base_worker_port=first,
        base_gossip_port=first + WORKERS,
        base_sidecar_port=first + 2 * WORKERS,
        metrics_port=None,
        models=models,
        policy="round-robin",
        memory="2GB",
        mode=Mode(row.mode),
    )
