"""`roost up --mode gossip`: real sidecars and workers, each a process, and no coordinator."""

from __future__ import annotations

import json
import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from client_peers import Roost

pytestmark = pytest.mark.slow

MODELS = '[models.sim-a]\nengine = "simulated"\nsource = "published"\nsize = "100MB"\noptions = { time_scale = 0.02 }\n'


def free_base() -> int:
    """A port of which the next hundred and twenty are free as well, as far as one look can tell."""
    for base in range(random.randrange(20_000, 30_000), 31_000, 120):
        with ExitStack() as probes, suppress(OSError):
            for port in range(base, base + 120):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return base
    raise AssertionError("no free ports")


async def test_a_cluster_without_a_coordinator_starts_answers_and_sums_up(roost: Roost, tmp_path: Path) -> None:
    base = free_base()
    (tmp_path / "models.toml").write_text(MODELS)
    done = await roost(
        *("up", "--mode", "gossip", "--workers", "2", "--duration", "1.5", "--json", "--log-dir", str(tmp_path / "logs")),
        *("--base-worker-port", str(base), "--base-gossip-port", str(base + 3), "--base-sidecar-port", str(base + 6)),
        *("--base-metrics-port", str(base + 9), "--models", str(tmp_path / "models.toml"), "--memory", "300MB"),
        *("--model", "sim-a", "--prompt", "Hello", "--max-tokens", "4"),
    )
    assert done.code == 0, done.err
    view = json.loads(done.out)
    assert view["targets"] == [f"127.0.0.1:{base + 7}", f"127.0.0.1:{base + 8}"]
    assert (view["state"]["plane"], view["ended_early"]) == ("GOSSIP", [])
    assert [worker["node_id"] for worker in view["state"]["workers"]] == ["worker-1", "worker-2"]
    assert len(view["first_request"]["tokens"]) == 4
    logs = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert logs == ["sidecar-1.log", "sidecar-2.log", "worker-1.log", "worker-2.log"]
    assert "sidecar_stopped" in (tmp_path / "logs" / "sidecar-1.log").read_text()
