"""Hard cases on real processes: more models than memory, as many, and fewer. `python bench/bench_peer_cases.py [--cases 6x12] [--json]`.

`roost up` with 4 workers, each with 2 slots and memory for 2 simulated models, or 3, that load in 0.5 s and answer in 20 ms; 32 clients in
a closed loop in this process, which ask for models by Zipf's law (0.9) and measure by their own clock. `8x8` are 8 models where there is
memory for 8. Hits are the scheduler's count, in which a request that waited there for a load is none; loads are those of the time that is
measured. `--drift 10` makes the model that is asked for least the most wanted every ten seconds. All processes share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

from roost.client.client import RoostClient
from roost.client.results import Token
from roost.client.traffic import Popularity
from roost.cluster.errors import RoostError

ROOST = Path(sys.executable).with_name("roost")
WORKERS = 4
CLIENTS = 32
ZIPF = 0.9
WARM_UP_S = 5.0  # the first loads: counted in the scheduler's hits, not in the times
PROMPT = "x" * 144  # 36 tokens as the simulated engine counts: read in 15 ms, and answered with one token in 5 ms
MODEL = """
[models.{name}]
engine = "simulated"
source = "published"
size = "6300MB"
limits = {{ parallel = 64 }}
options = {{ tier = "published-serverlessllm-nvme-raid0" }}
"""
POLICIES = ("affinity", "weighted-score", "expected-wait")


@dataclass(frozen=True, slots=True)
class Result:
    policy: str
    models: int
    requests: int
    failed: int
    requests_per_s: float
    hit_rate: float
    p50_s: float
    p95_s: float
    p99_s: float
    worst_s: float
    loads: int
    fairness: float
    fewest: int
    spaces: int
    fastest_model_s: float
    slowest_model_s: float


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def jain(values: list[float]) -> float:
    """Jain's index of fairness: 1.0 where all are alike, 1/n where one has all."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values)) if any(values) else 1.0


@asynccontextmanager
async def cluster(policy: str, models: list[str], spaces: int, folder: Path) -> AsyncIterator[str]:
    """The coordinator's address, while `roost up` runs."""
    catalogue = folder / "models.toml"
    catalogue.write_text("".join(MODEL.format(name=name) for name in models))
    port, base = free_port(), random.randrange(20_000, 30_000)
    command = [
        str(ROOST),
        "up",
        "--workers",
        str(WORKERS),
        "--slots",
        "2",
        "--memory",
        f"{spaces // WORKERS * 6350}MB",
        "--models",
        str(catalogue),
    ]
    command += ["--policy", policy, "--coordinator-port", str(port), "--base-worker-port", str(base)]
    command += ["--base-metrics-port", str(base + 500), "--log-dir", str(folder)]
    output = folder / "up.txt"
    with output.open("w") as written:
        process = await asyncio.create_subprocess_exec(*command, stdout=written, stderr=written)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is not None:
            raise SystemExit(f"roost up ended by itself with {process.returncode}:\n{output.read_text()}")
        process.send_signal(signal.SIGINT)
        await process.wait()


async def until_ready(client: RoostClient) -> None:
    async with asyncio.timeout(60.0):
        while True:
            try:
                if (await client.state()).active_workers == WORKERS:
                    return
            except RoostError:
                pass
            await asyncio.sleep(0.2)


class Run:
    """32 clients in a closed loop; what they measured."""

    def __init__(self, client: RoostClient, models: list[str], seed: int, drift_s: float) -> None:
        self.client = client
        self.models = models
        self.drift_s = drift_s
        self.popularity = Popularity(models, ZIPF)
        self.rng = random.Random(seed)
        self.waits_s: list[float] = []
        self.by_model: dict[str, list[float]] = {name: [] for name in models}
        self.failed: Counter[str] = Counter()
        self.began_at = perf_counter()

    def _drifted(self, model: str, now: float) -> str:
        """The model that has that one's place of popularity by now."""
        if not self.drift_s:
            return model
        return self.models[(self.models.index(model) - int((now - self.began_at) / self.drift_s)) % len(self.models)]

    async def ask(self, warm_at: float, ends_at: float) -> None:
        while (started := perf_counter()) < ends_at:
            model = self._drifted(self.popularity.choose(self.rng), started)
            try:
                async with aclosing(self.client.generate(model, PROMPT, max_tokens=1)) as events:
                    async for event in events:
                        if isinstance(event, Token) and started >= warm_at:
                            self.waits_s.append(perf_counter() - started)
                            self.by_model[model].append(self.waits_s[-1])
            except RoostError as error:
                self.failed[error.reason] += 1


async def loads_of(client: RoostClient) -> int:
    state = await client.state()
    return sum(worker.state.cache.loads for worker in state.workers if worker.state.cache is not None)


async def measure(policy: str, models: int, spaces: int, duration_s: float, seed: int, drift_s: float) -> Result:
    names = [f"sim-{number:02}" for number in range(models)]
    with tempfile.TemporaryDirectory() as folder:
        async with cluster(policy, names, spaces, Path(folder)) as target, RoostClient(target) as client:
            await until_ready(client)
            run = Run(client, names, seed, drift_s)
            begin = perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(CLIENTS):
                    tasks.create_task(run.ask(begin + WARM_UP_S, begin + WARM_UP_S + duration_s))
                await asyncio.sleep(WARM_UP_S)
                loads_before = await loads_of(client)
            state = await client.state()
            loads = await loads_of(client) - loads_before
    waits_s = sorted(run.waits_s)
    mean_waits = [sum(waits) / len(waits) for waits in run.by_model.values() if waits]
    return Result(
        policy,
        models,
        requests=len(waits_s),
        failed=run.failed.total(),
        requests_per_s=len(waits_s) / duration_s,
        hit_rate=state.cache_hit_rate,
        p50_s=waits_s[len(waits_s) // 2],
        p95_s=waits_s[int(len(waits_s) * 0.95)],
        p99_s=waits_s[int(len(waits_s) * 0.99)],
        worst_s=waits_s[-1],
        loads=loads,
        fairness=jain(mean_waits),
        fewest=min(len(waits) for waits in run.by_model.values()),
        spaces=spaces,
        fastest_model_s=min(mean_waits),
        slowest_model_s=max(mean_waits),
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description="Closed-loop clients on a cluster of real processes.")
    parser.add_argument("--policies", default=",".join(POLICIES), help="names, with commas")
    parser.add_argument("--cases", default="6x12,8x8,12x8", help="models x spaces for them, a multiple of the four workers; with commas")
    parser.add_argument("--drift", type=float, default=0.0, help="seconds after which popularity changes; 0: never")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds that are measured of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object for each line of the table")
    asked = parser.parse_args()
    table = Table(title=f"{CLIENTS} closed-loop clients, {WORKERS} worker processes with 2 slots, seed {asked.seed}")
    for column in (
        "models",
        "policy",
        "requests/s",
        "hits",
        "p50 s",
        "p95 s",
        "p99 s",
        "worst s",
        "loads",
        "Jain",
        "by model s",
        "fewest",
        "failed",
    ):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for case in asked.cases.split(","):
        models, spaces = map(int, case.split("x"))
        for policy in asked.policies.split(","):
            result = await measure(policy, models, spaces, asked.duration, asked.seed, asked.drift)
            if asked.json:
                print(json.dumps(asdict(result)), flush=True)
            table.add_row(
                f"{models} on {spaces}",
                policy,
                f"{result.requests_per_s:.1f}",
                f"{result.hit_rate:.3f}",
                *(f"{seconds:.3f}" for seconds in (result.p50_s, result.p95_s, result.p99_s, result.worst_s)),
                str(result.loads),
                f"{result.fairness:.2f}",
                f"{result.fastest_model_s:.3f}-{result.slowest_model_s:.3f}",
                str(result.fewest),
                str(result.failed),
            )
    if not asked.json:
        Console(width=160).print(table)


if __name__ == "__main__":
    asyncio.run(main())
