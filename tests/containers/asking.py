"""What tests of a running stack ask of it, as a user at the host would."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass

from tests.containers.stack import SIDECARS, WORKERS, WORKSPACE, Sample, Stack

MODEL = "gemma-3-270m"
MODELS = (MODEL, f"{MODEL}-q4_0", f"{MODEL}-q2_k", f"{MODEL}-q8_0")
SCRAPE_DEADLINE_S = 60.0  # a scrape and a rule evaluation take 10 s; a busy machine some more
GRACE_S = {"coordinator": 10, **dict.fromkeys(SIDECARS, 10), **dict.fromkeys(WORKERS, 40)}  # stop_grace_period of the compose files


@dataclass(frozen=True)
class Answer:
    """What `roost generate --json` said."""

    text: str
    worker_id: str
    cache: str
    completion_tokens: int


def generate(stack: Stack, model: str, prompt: str = "The capital of France is", max_tokens: int = 16, *, through: str = "") -> Answer:
    """`through` is the address to call instead of all the stack's targets."""
    target = ("--coordinator", through) if through else ()
    done = stack.roost("generate", model, prompt, "--max-tokens", str(max_tokens), "--json", *target)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return Answer(said["text"], said["worker_id"], said["cache"], said["usage"]["completion_tokens"])


def liveness(stack: Stack, *, through: str = "") -> dict[str, str]:
    workers = stack.state(through)["workers"]
    assert isinstance(workers, list)
    return {worker["node_id"]: worker["liveness"] for worker in workers}


def stops_cleanly(stack: Stack, *services: str) -> None:
    """`docker compose stop` ends them by themselves: within the grace period, with exit code 0."""
    started = time.monotonic()
    stack.compose("stop", *services)
    assert time.monotonic() - started < min(GRACE_S[service] for service in services)
    for service in services:
        assert stack.inspect(service, "{{.State.ExitCode}} {{.State.OOMKilled}}") == "0 false", service


def queries_of(dashboard: str) -> dict[str, str]:
    """Each query of a dashboard, with Grafana's variables as Grafana would fill them, and its panel's title."""
    panels = json.loads((WORKSPACE / f"deploy/grafana/dashboards/{dashboard}.json").read_text())["panels"]
    queries = {target["expr"]: panel["title"] for panel in panels for target in panel.get("targets", ())}
    filled = {"$__rate_interval": "20s", "$worker": ".*", "$sidecar": ".*"}
    for variable, value in filled.items():
        queries = {query.replace(variable, value): title for query, title in queries.items()}
    return queries


def has_numbers(samples: list[Sample]) -> bool:
    """A quantile of nothing is NaN; series of what nobody used in the window (a method, a model) may be, all of them may not."""
    return any(math.isfinite(sample.value) for sample in samples)
