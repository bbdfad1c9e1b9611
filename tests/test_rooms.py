"""The house's rooms: which are pure is told by their names, and what each may know is checked over all of them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
PURE = frozenset({"core", "protocol", "placement", "cluster", "flow"})
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]
FORBIDDEN = next(each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["type"] == "forbidden")
# What the simulator needs beside the cores: bytes as on the wire, because the gossip's budgets count them, and speeds as published.
BESIDE_CORES = {
    "roost.gossip.codec",
    "roost.gossip.record_format",
    "roost.worker.engines.published",
    "roost.worker.engines.simulated",
}
SIMULATED_BY = ("roost.sim.cli", "roost.sim.experiments", "roost.sim.__main__")  # they run real processes, too


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None)


def rooms() -> Iterator[str]:
    """Every package whose name says that it is pure."""
    for folder in sorted(ROOT.glob("*/**/src/roost/**")) + sorted(ROOT.glob("sim/src/roost/**")):
        if folder.is_dir() and folder.name in PURE and (folder / "__init__.py").exists():
            parts = folder.parts[folder.parts.index("roost") :]
            yield ".".join(parts)


def test_there_are_the_rooms_that_everybody_knows() -> None:
    assert {"roost.cluster", "roost.placement", "roost.flow", "roost.gossip.core", "roost.gossip.protocol", "roost.worker.core"} <= set(
        rooms()
    )


@pytest.mark.parametrize("room", sorted(set(rooms())))
def test_a_pure_room_is_under_the_contract_of_pure_code(room: str) -> None:
    """The contract names some rooms, and others by a pattern; a room of such a name anywhere else would be under none."""
    sources = FORBIDDEN["source_modules"]
    assert room in sources or f"roost.*.{room.rpartition('.')[2]}" in sources


@pytest.mark.parametrize("room", sorted(set(rooms())))
def test_a_pure_room_knows_none_but_pure_rooms(room: str, graph: grimp.ImportGraph) -> None:
    pure = set(rooms())
    inside = {room, *graph.find_descendants(room)}
    known = {there for here in inside for there in graph.find_modules_directly_imported_by(here) if there.startswith("roost.")}
    assert not {there for there in known if not any(there == each or there.startswith(f"{each}.") for each in pure)}
    external = {there for here in inside for there in graph.find_modules_directly_imported_by(here) if not there.startswith("roost.")}
    assert not external & set(FORBIDDEN["forbidden_modules"])


def test_no_modules_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    ours = [module for module in graph.modules if module.startswith("roost.")]
    sorter = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in ours})
    try:
        sorter.prepare()
    except CycleError as error:
        raise AssertionError(f"a circle: {error.args[1]}") from error


def test_the_simulator_drives_cores_and_nothing_else(graph: grimp.ImportGraph) -> None:
    pure = tuple(f"{room}." for room in rooms())
    strange = {
        (here, there)
        for here in graph.find_descendants("roost.sim")
        if not here.startswith(SIMULATED_BY)
        for there in graph.find_modules_directly_imported_by(here)
        if there.startswith("roost.") and not there.startswith(("roost.sim", *pure)) and there not in BESIDE_CORES
    }
    assert not strange
