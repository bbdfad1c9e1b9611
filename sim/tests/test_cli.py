"""`roost simulate` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from roost.sim.cli import build_app

QUICK = ["--workers", "4", "--duration", "10", "--service", "0.2", "--load", "0.5"]


def told(*arguments: str) -> str:
    result = CliRunner().invoke(build_app(), [*QUICK, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(build_app(), [*QUICK, *arguments])
    assert result.exit_code == 2
    return result.stderr


@pytest.mark.parametrize("mode", ["central", "gossip", "hybrid"])
def test_each_mode_ends_with_a_table(mode: str) -> None:
    table = told("--mode", mode)
    assert f"{mode}, expected-wait, 4 workers, seed 1" in table
    assert "cache hit rate" in table


def test_the_same_line_gives_the_same_numbers() -> None:
    assert told("--json", "--seed", "7") == told("--json", "--seed", "7") != told("--json", "--seed", "8")


def test_json_is_one_object_and_has_no_nan() -> None:
    whole = json.loads(told("--json", "--kill-coordinator", "0"), parse_constant=pytest.fail)
    assert whole["success_rate"] == 0.0
    assert whole["hit_rate"] is None
    assert whole["events"][0] == [0.0, "coordinator killed"]


def test_a_trace_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,model,prompt_tokens,output_tokens\n0,a,1,1\n1,a,1,1\n2,b,1,1\n99,b,1,1\n", encoding="utf-8")
    assert json.loads(told("--trace", str(path), "--json"))["requests"] == 3
    assert json.loads(told("--trace", str(path), "--speed", "10", "--json"))["requests"] == 4
    assert "2 models, the most popular has 67%" in told("--trace", str(path))
    assert "3 models" in told("--trace", str(path), "--mapping", "round-robin", "--models", "5")


def test_clients_can_wait_for_their_answers() -> None:
    assert json.loads(told("--clients", "3", "--think", "0.5", "--json"))["served"] > 10


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--policy", "best"], "policy: 'best' is not one of"),
        (["--mode", "anarchy"], "plane must be one of"),
        (["--trace", "nowhere.csv"], "--trace: nowhere.csv cannot be read: No such file"),
        (["--mapping", "stripe"], "say which with --trace"),
        (["--kill-worker", "soon"], "--kill-worker: must be SECONDS:WORKER"),
        (["--kill-worker", "1:9"], "--kill-worker: worker must be 0-3"),
        (["--rate", "0"], "--rate: must be more than 0"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused_with_what_to_change(arguments: list[str], why: str) -> None:
    assert why in refused(*arguments)
