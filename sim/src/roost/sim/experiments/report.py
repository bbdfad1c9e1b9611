"""An outcome written down: Markdown with its plots, the tables as CSV, every number as JSON. The same outcome gives the same bytes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path

from roost.sim.experiments.outcome import Outcome, Table
from roost.sim.experiments.plan import Setup
from roost.sim.experiments.plots import draw

FOLDERS = {1: "1-performance", 2: "2-fault-tolerance", 3: "3-evenness", 4: "4-reality"}


def write(outcome: Outcome, setup: Setup, seeds: Sequence[int], command: str, carried_by: str, out: Path) -> Path:
    """Writes OUT/N-NAME/ and returns its report.md. `carried_by`: the simulator, or real processes."""
    folder = out / FOLDERS[outcome.number]
    folder.mkdir(parents=True, exist_ok=True)
    for figure in outcome.figures:
        draw(figure, folder)
    for number, table in enumerate(outcome.tables, 1):
        (folder / f"table-{number}.csv").write_text(_csv(table), encoding="utf-8")
    found = {"command": command, "carried_by": carried_by, "seeds": list(seeds), "setup": asdict(setup), "measured": outcome.measured}
    (folder / "results.json").write_text(json.dumps(_plain(found), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    report = folder / "report.md"
    report.write_text(_markdown(outcome, setup, seeds, command, carried_by), encoding="utf-8")
    return report


def _markdown(outcome: Outcome, setup: Setup, seeds: Sequence[int], command: str, carried_by: str) -> str:
    lines = [f"# Experiment {outcome.number}: {outcome.title}", "", f"**{outcome.question}**", ""]
    lines += [f"Made by `{command}`, carried out by {carried_by}, seeds {_span(seeds)}. {describe(setup)}", ""]
    lines += ["## What the data say", ""]
    for claim in outcome.claims:
        lines += [f"- *{claim.hypothesis}* **{claim.verdict.value.capitalize()}.** {claim.because}"]
    lines += [""]
    for figure in outcome.figures:
        lines += [f"![{figure.charts[0].title}]({figure.name}.svg)", "", figure.caption, ""]
    for number, table in enumerate(outcome.tables, 1):
        lines += [
            f"## {table.title}",
            "",
            *_rows(table),
            "",
            f"As numbers: [table-{number}.csv](table-{number}.csv), [results.json](results.json).",
            "",
        ]
    lines += ["## Limits", "", *(f"- {limit}" for limit in outcome.limits), ""]
    return "\n".join(lines)


def describe(setup: Setup) -> str:
    """The setup in a sentence or two."""
    cluster = f"{setup.workers} workers with {setup.slots} slots and memory for {setup.places} of {setup.models} models each"
    asks = f"{setup.rate:g} requests a second (Poisson) for {setup.duration_s:g} s, by Zipf's law ({setup.zipf:g}) over the models"
    each = f"each of {setup.prompt_tokens} tokens with an answer of {setup.output_tokens}"
    speed = f"a load takes {setup.load_s:.2f} s, policy {setup.policy}"
    return f"{cluster}; {asks}, {each}; {speed}. Nothing is loaded when a run begins, and all of it counts."


def _span(seeds: Sequence[int]) -> str:
    return f"{seeds[0]}-{seeds[-1]}" if len(seeds) > 1 else str(seeds[0])


def _rows(table: Table) -> list[str]:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    return [row(table.columns), row(["---"] * len(table.columns)), *(row(cells) for cells in table.rows)]


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


def _plain(value: object) -> object:
    """What JSON can say; numbers rounded to a tenth of a millisecond, NaN as null."""
    if isinstance(value, float):
        return None if math.isnan(value) or math.isinf(value) else round(value, 4)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
