"""What both boards show of a cluster that does nothing and of one that works: numbers, each thing once.

The cluster is of processes on this machine, in both planes at once; only Prometheus is a container.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_cluster import LocalCluster, await_port, clean_environment, free_port

from tests.containers.asking import queries_of
from tests.containers.stack import WORKSPACE, Sample, eventually, run

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]
MEMBERS = 3
REQUESTS = 12
SCRAPES_S = 25.0  # as long as the window over which the boards' rates are taken, and some
MODELS = """
[models.small]
engine = "simulated"
source = "published"
size = "10MB"
options = { tier = "nvme-pcie4", profile = "small-l40s", time_scale = 0.01 }
"""


@dataclass(frozen=True)
class Observed:
    """A cluster and the Prometheus that scrapes it."""

    cluster: LocalCluster
    port: int

    def query(self, expression: str) -> list[Sample]:
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            result = json.loads(answer.read())["data"]["result"]
        return [Sample(element["metric"], float(element["value"][1])) for element in result]

    def value(self, expression: str) -> float:
        return sum(sample.value for sample in self.query(expression))


def configuration(cluster: LocalCluster, sidecars: list[int]) -> str:
    def job(name: str, ports: list[int]) -> dict[str, object]:
        return {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}

    workers = [port for name, port in cluster.metrics_ports.items() if name != "coordinator"]
    jobs = [job("roost-coordinator", [cluster.metrics_ports["coordinator"]]), job("roost-worker", workers), job("roost-gossip", sidecars)]
    rules = ["/etc/prometheus/rules/*.rules.yml"]
    return json.dumps({"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": rules, "scrape_configs": jobs})


@pytest.fixture(scope="module")
def observed(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    del engine
    folder = tmp_path_factory.mktemp("boards")
    models = folder / "models.toml"
    models.write_text(MODELS)
    cluster = LocalCluster(folder, models)
    sidecars: list[subprocess.Popen[bytes]] = []
    name, port, seed, metrics = f"roost-boards-{free_port()}", free_port(), str(free_port()), []
    try:
        cluster.start_coordinator()
        for number in range(1, MEMBERS + 1):
            grpc_port, own = free_port(), seed if number == 1 else str(free_port())
            metrics.append(free_port())
            flags = ["--node-id", f"worker-{number}", "--port", own, "--seeds", f"127.0.0.1:{seed}", "--models", str(models)]
            flags += ["--grpc-port", str(grpc_port), "--metrics-port", str(metrics[-1])]
            with (folder / f"sidecar-{number}.log").open("wb") as log:
                sidecars.append(
                    subprocess.Popen([sys.executable, "-m", "roost.gossip", *flags], stdout=log, stderr=log, env=clean_environment())
                )
            await_port(grpc_port, sidecars[-1])
            cluster.start_worker(f"worker-{number}", "--sidecar", f"127.0.0.1:{grpc_port}")
        cluster.await_live(MEMBERS)
        start_prometheus(name, port, configuration(cluster, metrics), folder)
        made = Observed(cluster, port)
        eventually(lambda: all_up(made), deadline_s=60, what="a scrape of every process")
        yield made
    finally:
        run("docker", "rm", "--force", name, deadline_s=60)
        cluster.stop()
        for sidecar in sidecars:
            sidecar.terminate()
            sidecar.wait(timeout=20)


def start_prometheus(name: str, port: int, configured: str, folder: Path) -> None:
    (folder / "prometheus.yml").write_text(configured)
    mounts = ["--volume", f"{folder}/prometheus.yml:/etc/prometheus/prometheus.yml:ro"]
    mounts += ["--volume", f"{WORKSPACE}/deploy/prometheus/rules:/etc/prometheus/rules:ro"]
    flags = ["--config.file=/etc/prometheus/prometheus.yml", f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.path=/tmp/data"]
    where = ["--network", "host", "--user", "0"]
    image = "prom/prometheus:v3.5.3"
    done = run("docker", "run", "--detach", "--rm", "--name", name, *where, *mounts, image, *flags, deadline_s=120)
    assert done.returncode == 0, done.stderr


def all_up(observed: Observed) -> bool | None:
    try:
        return observed.value("sum(up)") == 1 + 2 * MEMBERS or None
    except OSError:  # it does not listen yet
        return None


def no_numbers(observed: Observed) -> dict[str, list[Sample]]:
    """What the boards would show that is no number, by expression."""
    shown = {query: observed.query(query) for board in ("overview", "gossip") for query in queries_of(board)}
    assert len(shown) > 40
    return {query: samples for query, samples in shown.items() if not all(math.isfinite(sample.value) for sample in samples)}


def expression_of(board: str, contains: str) -> str:
    [found] = [query for query in queries_of(board) if contains in query]
    return found


def shows_each_once(observed: Observed) -> None:
    assert observed.value(expression_of("gossip", "max by (status) (roost_gossip_members")) == MEMBERS
    assert [sample.value for sample in observed.query('max(roost_workers{liveness="live"})')] == [MEMBERS]
    assert observed.value(expression_of("gossip", 'min(roost_gossip_members{status="alive"})')) == 0


def after(seconds: float) -> Callable[[], bool | None]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until or None


def test_an_idle_cluster_shows_numbers_and_each_thing_once(observed: Observed) -> None:
    eventually(after(SCRAPES_S), deadline_s=SCRAPES_S + 10, what="a window of scrapes")
    assert no_numbers(observed) == {}
    shows_each_once(observed)
    assert observed.value("sum(roost_requests_total)") == 0


def test_a_busy_cluster_shows_numbers_and_each_request_once(observed: Observed) -> None:
    for _ in range(REQUESTS):
        observed.cluster.generate("small")
    eventually(lambda: observed.value("sum(roost_requests_total)") == REQUESTS or None, deadline_s=20, what="every request, once")
    lookups = observed.value("sum(roost_cache_lookups_total)")
    assert lookups == REQUESTS
    assert no_numbers(observed) == {}
    shows_each_once(observed)
    whole = observed.value(expression_of("overview", "sum(rate(roost_requests_total["))
    parts = observed.value(expression_of("overview", "sum by (result) (rate(roost_requests_total"))
    assert parts == pytest.approx(whole, rel=0.3), "taken a moment later"
