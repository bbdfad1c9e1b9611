"""Clusters of real processes for the tests that cross services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local_cluster import LocalCluster

SIMULATED_MODELS = "".join(
    f"""
[models.sim-{letter}]
engine = "simulated"
source = "published"
size = "100MB"
limits = {{ context_tokens = 2048 }}
options = {{ time_scale = 0.02 }}
"""
    for letter in "abcdef"
)


@pytest.fixture
def simulated_models(tmp_path: Path) -> Path:
    """Six simulated models of 100 MB that load and answer fifty times faster than published figures."""
    path = tmp_path / "models.toml"
    path.write_text(SIMULATED_MODELS)
    return path


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., LocalCluster]]:
    """Makes clusters that are stopped when the test ends."""
    clusters: list[LocalCluster] = []

    def make(**settings: object) -> LocalCluster:
        cluster = LocalCluster(folder=tmp_path, **settings)  # type: ignore[arg-type]  # the dataclass checks its fields' names
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.stop()
