"""The script that decides what an image carries."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

WORKSPACE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def closure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("closure", WORKSPACE / "deploy/docker/closure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["closure"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def member(name: str, *requirements: str, **extras: tuple[str, ...]) -> str:
    lines = ["[project]", f'name = "{name}"', f"dependencies = {list(requirements)!r}", "[project.optional-dependencies]"]
    return "\n".join(lines + [f"{extra} = {list(wanted)!r}" for extra, wanted in extras.items()]) + "\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    manifests = {
        "libs/api": member("roost-api", "grpcio==1.0"),
        "libs/service": member("roost-service", "roost-api", "structlog>=2"),
        "libs/client": member("roost-client", "roost-service", "typer"),
        "services/worker": member(
            "roost-worker", "Roost_Service", "httpx>=0.28", engine=("llama>=1; python_version<'4'",), demo=("weights==1",)
        ),
    }
    for folder, text in manifests.items():
        (tmp_path / folder / "src/roost").mkdir(parents=True)
        (tmp_path / folder / "tests").mkdir()
        (tmp_path / folder / "pyproject.toml").write_text(text)
    return tmp_path


def test_a_service_takes_what_it_reaches_and_nothing_else(closure: ModuleType, workspace: Path) -> None:
    found = closure.closure_of(closure.read_members(workspace), "worker", [])
    assert [member.name for member in found.members] == ["roost-worker", "roost-service", "roost-api"]
    assert found.requirements == ("grpcio==1.0", "httpx>=0.28", "structlog>=2")


def test_extras_are_the_services_own_and_only_those_asked_for(closure: ModuleType, workspace: Path) -> None:
    found = closure.closure_of(closure.read_members(workspace), "worker", ["engine"])
    assert "llama>=1; python_version<'4'" in found.requirements
    assert not any("weights" in requirement for requirement in found.requirements)


@pytest.mark.parametrize(
    ("service", "extras", "words"), [("wrker", "", "roost-worker"), ("worker", "dem", "demo, engine"), ("client", "demo", "none")]
)
def test_an_unknown_part_is_named_with_what_there_is(
    closure: ModuleType, workspace: Path, capsys: pytest.CaptureFixture[str], service: str, extras: str, words: str
) -> None:
    assert closure.main([service, str(workspace / "out"), "--extras", extras, "--workspace", str(workspace)]) == 2
    assert words in capsys.readouterr().err


def test_sources_are_copied_without_tests(closure: ModuleType, workspace: Path) -> None:
    assert closure.main(["worker", str(workspace / "out"), "--extras", "engine,demo", "--workspace", str(workspace)]) == 0
    members = workspace / "out/members"
    assert sorted(path.name for path in members.iterdir()) == ["roost-api", "roost-service", "roost-worker"]
    assert not (members / "roost-worker/tests").exists()
    assert "weights==1" in (workspace / "out/requirements.txt").read_text().splitlines()


@pytest.mark.parametrize("service", ["coordinator", "worker", "client"])
def test_no_service_of_this_workspace_carries_another(closure: ModuleType, service: str) -> None:
    found = closure.closure_of(closure.read_members(WORKSPACE), service, [])
    names = {member.name for member in found.members}
    assert names & {"roost-coordinator", "roost-worker", "roost-client"} == {f"roost-{service}"}
    assert not any("gguf" in requirement or "cyllama" in requirement for requirement in found.requirements)
