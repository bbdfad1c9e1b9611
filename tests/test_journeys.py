"""`docs/architecture.md` tells what really runs: each journey is made, and each of its steps is called, in its order."""

from __future__ import annotations

import re
from pathlib import Path

import journeys
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
TOLD = {
    name: (int(most), [tuple(step) for step in re.findall(r"^\d+\. `([\w/.]+):(\w+)`", text, re.MULTILINE)])
    for name, most, text in re.findall(r"<!-- journey: (\w+), at most (\d+) functions -->(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}


def hold(name: str, made: journeys.Journey) -> None:
    most, steps = TOLD[name]
    missing = [step for step in steps if step not in made.calls]
    assert not missing, f"{name}: the page names what was not called"
    last = -1
    for step in steps:  # a function may be called again and again: some call of each follows some call of the one before
        following = [place for place, call in enumerate(made.calls) if call == step and place > last]
        assert following, f"{name}: {step} is not called after the step before it"
        last = following[0]
    assert len(made.functions) <= most, f"{name}: {len(made.functions)} functions are called; the page says at most {most}"


async def test_a_schedule_and_a_report_go_the_way_that_the_page_tells() -> None:
    asking, reporting = await journeys.schedule_and_report()
    hold("schedule", asking)
    hold("report", reporting)


async def test_a_cold_generation_goes_the_way_that_the_page_tells() -> None:
    hold("cold", await journeys.cold_generation())


def test_a_datagram_goes_the_way_that_the_page_tells() -> None:
    hold("datagram", journeys.datagram())


@pytest.mark.parametrize("name", ["schedule", "report", "datagram", "cold"])
def test_each_journey_is_told_in_steps(name: str) -> None:
    assert len(TOLD[name][1]) >= 10
