"""A plan on real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from roost.sim.experiments.live import CannotRun, run_live, run_measured
from roost.sim.experiments.plan import CENTRAL, GOSSIP, HYBRID, Fault, Plan, Setup
from roost.sim.summary import summarize

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SETUP = Setup(workers=2, models=3, rate=5.0, duration_s=6.0, slots=2)


@pytest.mark.parametrize("plane", [CENTRAL, GOSSIP])
async def test_every_request_of_the_plan_is_sent_and_served(plane: str) -> None:
    plan = Plan(plane, SETUP, 1)
    record, delays = await run_measured(plan)
    assert [request.model for request in record.requests] == [ask.model for ask in plan.asks()]
    found = summarize(record)
    assert found.success_rate == 1.0
    assert 0.0 < found.hit_rate < 1.0
    assert found.ttft_p50_s > 0.0
    assert {sample.worker for sample in record.samples} == set(SETUP.worker_names)
    assert 0.0 < delays.ask_s < 1.0


async def test_a_fault_is_carried_out_and_noted() -> None:
    record = await run_live(Plan(CENTRAL, SETUP, 1, (Fault(2.0, "worker-2", 1.0),)))
    assert [what for _, what in record.events] == ["worker-2 killed", "worker-2 started anew"]
    assert record.events[0][0] >= 2.0
    assert sum(request.is_served for request in record.requests) >= len(record.requests) - 4, "what ran there is lost, the rest is not"


async def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(CannotRun, match="hybrid"):
        await run_live(Plan(HYBRID, SETUP, 1))


def test_the_command_refuses_a_policy_that_does_not_exist() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "roost.sim.experiments", "3", "--policy", "best"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "expected-wait" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_writes_a_report_and_says_what_it_found(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "roost.sim.experiments", "3", "--quick", "--out", str(tmp_path), "--json"],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["experiments"][0]["number"] == 3
    assert (tmp_path / "3-evenness/report.md").is_file()
    assert "runs" in done.stderr, "progress"
