"""`roost replay` and `roost explain --file`, as a script calls them, on recordings made by a decider in this process."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from roost.client.cli.app import build_app
from roost.client.recordings import explain_from, files_of
from roost.cluster.errors import InvalidField
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CatalogueModel, ModelStatus, Phase, WorkerState
from roost.placement.decider import Decider
from roost.placement.facts import Reported
from roost.placement.recording.events import Beginning, Event
from roost.placement.recording.journal import Journal
from roost.placement.recording.writing import Writer
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms

CATALOGUE = (CatalogueModel("llama-7b", "simulated", 13), CatalogueModel("phi-2", "simulated", 5))


def record(file: Path, *names: str, policy: str = "weighted-score", decider: str = "c1") -> Path:
    """A recording of a request for each name: w-0 has llama-7b ready and much to do, w-1 nothing."""
    writer, text = Writer(), ""

    def write(event: Beginning | Event) -> bool:
        nonlocal text
        text += writer.first_lines(event) if isinstance(event, Beginning) else writer.line(event)
        return False

    deciding = Decider(ClusterView(catalogue=CATALOGUE), Terms(decider, policy), rng=random.Random())
    journal = Journal(deciding, write, lambda: (7, random.Random(7)), plane="central", wall_offset_s=1e9)
    models = {"llama-7b": ModelStatus("llama-7b", Phase.READY, 13)}
    for state in (
        WorkerState("w-0", models, epoch=1, sequence=1, queue_depth=5, catalogue=CATALOGUE),
        WorkerState("w-1", epoch=1, sequence=1, catalogue=CATALOGUE),
    ):
        deciding.hear(Reported(state, is_streamed=True), 1.0)
        journal.heard(Reported(state, is_streamed=True), 1.0, deciding.effects())
    for number, name in enumerate(names):
        request = PlacementRequest(name, "llama-7b")
        journal.asked(request, 2.0 + number, deciding.ask(request, 2.0 + number))
    file.write_text(text)
    return file


def roost(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(build_app(), [str(each) for each in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_a_recording_is_replayed_the_same(tmp_path: Path) -> None:
    code, out, err = roost("replay", record(tmp_path / "f", "r1", "r2", "r3"))
    assert (code, err) == (0, "")
    assert out.splitlines()[0].endswith("3 decisions by weighted-score in the central plane (c1)")
    assert out.splitlines()[1] == "3 of 3 decisions identical"


def test_the_file_before_is_read_first(tmp_path: Path) -> None:
    record(tmp_path / "f.1", "r1", "r2")
    file = record(tmp_path / "f", "r3")
    code, out, _ = roost("replay", file, "--json")
    told = json.loads(out)
    assert code == 0
    assert [Path(each["file"]).name for each in told["files"]] == ["f.1", "f"]
    assert (told["decisions"], told["identical"], told["difference"]) == (3, 3, None)
    assert files_of(tmp_path / "f.1") == [tmp_path / "f.1"]


def test_a_difference_is_shown_and_ends_with_1(tmp_path: Path) -> None:
    file = record(tmp_path / "f", "r1", "r2", "r3")
    text = file.read_text()
    file.write_text(text.replace('"worker":"w-0"', '"worker":"w-1"', 2).replace('"worker":"w-1"', '"worker":"w-0"', 1))
    code, out, _ = roost("replay", file)
    assert code == 1
    assert "1 of 3 decisions identical" in out
    assert "first difference at decision 2 on r2:\n  recorded w-1 SERVE" in out
    assert "  replayed w-0 SERVE" in out
    code, out, _ = roost("replay", file, "--json")
    assert code == 1
    assert json.loads(out)["difference"]["replayed"]["worker_id"] == "w-0"


def test_another_policy_is_set_beside_the_recorded_one(tmp_path: Path) -> None:
    file = record(tmp_path / "f", "r1", "r2", "r3")
    code, out, _ = roost("replay", file, "--policy", "least-loaded", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["is_open_loop"] is True
    assert (told["asked"], told["elsewhere"]) == (3, 3)
    assert (told["recorded"]["served"], told["replayed"]["cold_starts"]) == (3, 3)
    assert [each["model"] for each in told["models"]] == ["llama-7b"]
    code, out, _ = roost("replay", file, "--policy", "least-loaded")
    assert code == 0
    assert "3 of 3 requests (100.0%) go elsewhere with least-loaded than with weighted-score" in out
    assert "Open loop" in out


@pytest.mark.parametrize(
    ("content", "options", "why"),
    [
        (None, (), "no such file"),
        ("hello\n", (), "is not a recording of decisions"),
        ('{"roost_recording": 3}\n', (), "is of format 3, and this version of Roost reads formats 1 and 2"),
        ("", ("--policy", "best"), "'best' is not one of expected-wait"),
    ],
)
def test_what_cannot_be_replayed_is_wrong_usage(content: str | None, options: tuple[str, ...], why: str, tmp_path: Path) -> None:
    file = record(tmp_path / "f", "r1")
    if content is None:
        file.unlink()
    elif content:
        file.write_text(content)
    code, out, err = roost("replay", file, *options)
    assert (code, out) == (2, "")
    assert why in err
    assert len(err.splitlines()) == 1


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="is no file"):
        files_of(tmp_path)


def test_a_decision_is_explained_from_a_recording(tmp_path: Path) -> None:
    record(tmp_path / "f.1", "r1")
    file = record(tmp_path / "f", "r2")
    (explained,), _ = explain_from(file, "r1")
    assert explained.decision is not None
    assert (explained.decision.worker_id, explained.decided_at) == ("w-0", 1e9 + 2.0)
    assert explained.considered[0].queue_depth == 5
    code, out, _ = roost("explain", "r2", "--file", file, "--json")
    assert code == 0
    assert json.loads(out)["decisions"][0]["decision"]["worker_id"] == "w-0"


def test_a_request_that_is_not_recorded_ends_with_4(tmp_path: Path) -> None:
    code, out, err = roost("explain", "r9", "--file", record(tmp_path / "f", "r1", "r2"), "--json")
    assert code == 4
    assert json.loads(out)["error"]["reason"] == "UNKNOWN_REQUEST"
    assert "no decision on request 'r9' is among the 2 in " in err
