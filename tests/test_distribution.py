"""Roost as people get it: one distribution, built from the source roots, installed where there is no checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from roost.client import extras
from roost.client.extras import advice, missing_extra
from roost.client.local.ports import free_ports

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
BUILD_S = 120.0
INSTALL_S = 400.0  # some 60 packages from an index or its cache
UP_S = 90.0
# What a program that only asks for text must install: Roost itself, and these.
BARE = {"roost-serving", "googleapis-common-protos", "grpcio", "protobuf", "sortedcontainers", "structlog", "typing-extensions"}
MODELS = """
[models.sim-a]
engine = "simulated"
source = "published"
size = "100MB"
limits = { context_tokens = 2048 }
options = { time_scale = 0.02 }
"""


def source_roots() -> set[Path]:
    """Every folder in the tree that holds a part of the namespace `roost`."""
    return {path for path in [*ROOT.glob("*/src/roost"), *ROOT.glob("*/*/src/roost")] if ".venv" not in path.parts}


def run(*command: str | Path, cwd: Path, deadline_s: float, fails: bool = False) -> str:
    """What the command printed, on stderr if it shall fail. Nothing of this checkout's environment reaches it."""
    found = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=deadline_s, check=False)
    assert bool(found.returncode) == fails, f"{command}: {found.returncode}\n{found.stdout}\n{found.stderr}"
    return found.stderr if fails else found.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist as whoever has only the sdist would."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder, deadline_s=BUILD_S)
    (found,) = folder.glob("*.whl")
    return found


def install(folder: Path, wheel: Path, extra: str) -> Path:
    """The Python of a new environment with nothing but the wheel, that extra and what they need."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder, deadline_s=BUILD_S)
    python = folder / "venv/bin/python"
    constraints = ROOT / "constraints.txt"
    run(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", constraints, f"{wheel}{extra}",
        cwd=folder, deadline_s=INSTALL_S,
    )  # fmt: skip
    return python


def test_every_source_root_is_in_the_distribution() -> None:
    assert {ROOT / package for package in PACKAGES} == source_roots()


def test_an_editable_installation_and_the_type_checker_see_the_same_source_roots() -> None:
    roots = [str(Path(package).parent) for package in PACKAGES]
    assert PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"] == roots
    assert [path for path in PROJECT["tool"]["mypy"]["mypy_path"] if path.endswith("src")] == roots


def test_there_is_one_distribution_and_no_package_file_of_the_namespace() -> None:
    assert [path for path in ROOT.glob("*/**/pyproject.toml") if ".venv" not in path.parts] == []
    assert [root for root in source_roots() if (root / "__init__.py").exists()] == []


def test_every_part_says_that_it_is_typed() -> None:
    parts = [part for root in source_roots() for part in root.iterdir() if (part / "__init__.py").exists()]
    assert [part for part in parts if not (part / "py.typed").exists()] == []


def test_every_extra_that_the_command_advises_is_one() -> None:
    assert {extra for extra, _ in extras._NEEDS.values()} <= set(PROJECT["project"]["optional-dependencies"])
    assert missing_extra("roost.worker") is None
    assert advice({"worker", "gossip"}).count("[gossip,worker]") == 1


def test_all_is_every_extra_but_the_weights_that_have_terms_of_their_own() -> None:
    declared = PROJECT["project"]["optional-dependencies"]
    (reached,) = declared["all"]
    assert set(reached.removeprefix("roost-serving[").removesuffix("]").split(",")) == set(declared) - {"all", "demo", "service"}


@pytest.mark.slow
@pytest.mark.timeout(BUILD_S)
def test_wheel_and_sdist_hold_the_source_and_neither_tests_nor_tools(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("roost/")}
    sources = {
        f"roost/{path.relative_to(root)}"
        for root in source_roots()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == sources
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml", "constraints.txt", "tests/test_distribution.py"} <= held
    assert not {name for name in held if name.startswith((".ci", ".venv", ".git/"))}


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_S + 60)
def test_the_bare_client_needs_grpc_protobuf_and_little_else(wheel: Path, tmp_path: Path) -> None:
    python = install(tmp_path, wheel, "")
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check", cwd=tmp_path, deadline_s=60))
    names = {each["name"].lower().replace("_", "-") for each in listed} - {"pip", "setuptools", "wheel"}
    assert names == BARE
    where = run(python, "-c", "import roost.client; print(roost.client.RoostClient, roost.client.__file__)", cwd=tmp_path, deadline_s=60)
    assert str(tmp_path) in where
    told = run(python.with_name("roost"), "state", cwd=tmp_path, deadline_s=60, fails=True)
    assert told == f"{advice({'cli'})}\n"


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_S)
def test_the_command_alone_asks_and_says_which_extras_a_cluster_needs(wheel: Path, tmp_path: Path) -> None:
    roost = install(tmp_path, wheel, "[cli]").with_name("roost")
    assert "generate" in run(roost, "--help", cwd=tmp_path, deadline_s=60)
    assert run(roost, "--version", cwd=tmp_path, deadline_s=60).startswith("roost ")
    assert run(roost, "up", cwd=tmp_path, deadline_s=60, fails=True) == f"{advice({'coordinator', 'worker'})}\n"
    assert run(roost, "simulate", cwd=tmp_path, deadline_s=60, fails=True) == f"{advice({'sim'})}\n"


@pytest.mark.slow
@pytest.mark.timeout(INSTALL_S + UP_S)
def test_with_everything_installed_a_cluster_comes_up_and_answers(wheel: Path, tmp_path: Path) -> None:
    roost = install(tmp_path, wheel, "[all]").with_name("roost")
    (tmp_path / "models.toml").write_text(MODELS)
    ports = free_ports(4)
    told = run(
        roost, "up", "--workers", "1", "--models", "models.toml", "--model", "sim-a", "--prompt", "Once", "--duration", "1", "--json",
        "--coordinator-port", str(ports), "--base-worker-port", str(ports + 1), "--no-metrics",
        cwd=tmp_path, deadline_s=UP_S,
    )  # fmt: skip
    assert '"worker-1"' in told
