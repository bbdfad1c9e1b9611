"""Recordings of real processes: replayed they decide the same, whether the decider was stopped, killed or went on to another file."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cluster import LocalCluster, clean_environment

from roost.client.client import RoostClient

pytestmark = pytest.mark.slow

MODEL = """
[models.{name}]
engine = "simulated"
source = "published"
size = "1GB"
limits = {{ parallel = 8 }}
options = {{ tier = "nvme-pcie4" }}
"""
MODELS = ("one", "two", "three", "four", "five")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path, tmp_path / "models.toml", policy="expected-wait")
    assert made.models_file is not None
    made.models_file.write_text("".join(MODEL.format(name=name) for name in MODELS))
    yield made
    made.stop()


def start(cluster: LocalCluster, *record: str) -> None:
    cluster.coordinator_args = ("--record", str(cluster.folder / "decisions.jsonl"), *record)
    cluster.start_coordinator()
    for number in range(3):
        cluster.start_worker(f"worker-{number}", "--memory", "2GB", "--slots", "2", "--time-scale", "0.2")
    cluster.await_live(3)


def roost(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "roost.client.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**clean_environment(), "COLUMNS": "200"}, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


async def ask(cluster: LocalCluster, count: int) -> None:
    async with RoostClient(cluster.address) as client:
        names = [MODELS[number * number % len(MODELS)] for number in range(count)]
        asked = (
            client.generate_text(name, "Once", max_tokens=1, request_id=f"r{number}", priority=number % 10)
            for number, name in enumerate(names)
        )
        await asyncio.gather(*asked)


async def test_a_coordinators_recording_replays_the_same_and_explains(cluster: LocalCluster) -> None:
    start(cluster)
    await ask(cluster, 60)
    cluster.kill("worker-1")
    cluster.await_live(2)
    await ask(cluster, 60)
    cluster.stop()
    file = str(cluster.folder / "decisions.jsonl")
    code, out, err = roost("replay", file, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["decisions"] == told["identical"] >= 120
    assert told["files"][0]["note"] == ""
    code, out, _ = roost("replay", file, "--policy", "least-loaded", "--json")
    compared = json.loads(out)
    assert code == 0
    assert compared["asked"] >= 120
    assert compared["recorded"]["served"] + compared["recorded"]["cold_starts"] >= 120
    code, out, _ = roost("explain", "r7", "--file", file)
    assert code == 0
    assert "Decided by policy expected-wait in the central plane" in " ".join(out.split())
    code, out, err = roost("explain", "nobody", "--file", file)
    assert code == 4
    assert "no decision on request 'nobody' is among the" in err


async def test_a_killed_coordinators_recording_replays_up_to_its_last_moments(cluster: LocalCluster) -> None:
    start(cluster)
    await ask(cluster, 60)
    recording = cluster.folder / "decisions.jsonl"
    cluster.await_state(lambda _: recording.read_text().count('"op":"ask"') == 60)  # the writer goes on by itself
    cluster.kill("coordinator")
    with (cluster.folder / "decisions.jsonl").open("a") as file:
        file.write('{"op":"place","now":12.')
    code, out, err = roost("replay", str(cluster.folder / "decisions.jsonl"))
    assert code == 0, err
    assert "was not written to its end" in err
    counts = out.splitlines()[-1].split()
    assert counts[0] == counts[2]
    assert int(counts[0]) >= 50


async def test_a_full_file_is_followed_by_another_that_replays_by_itself(cluster: LocalCluster) -> None:
    start(cluster, "--record-bytes", "100000")
    for _ in range(6):
        await ask(cluster, 60)
    cluster.stop()
    files = [cluster.folder / "decisions.jsonl.1", cluster.folder / "decisions.jsonl"]
    assert all(100 < file.stat().st_size < 200_000 for file in files)
    code, out, _ = roost("replay", str(files[1]), "--json")
    told = json.loads(out)
    assert code == 0
    assert [each["file"] for each in told["files"]] == [str(file) for file in files]
    assert told["decisions"] == told["identical"]
    assert all(each["decisions"] for each in told["files"][:1])
    assert "recording_rotated" in cluster.log("coordinator")
    assert "recording_stopped" not in cluster.log("coordinator")
