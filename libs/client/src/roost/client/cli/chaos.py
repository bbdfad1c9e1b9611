"""`roost chaos`: breaks a cluster on purpose, under load, and says what callers lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from roost.client.chaos.core.report import HEADINGS, Result, cells, page
from roost.client.chaos.core.rows import ROWS, Row
from roost.client.chaos.trials import run_row
from roost.client.cli.exits import ExitCode
from roost.client.cli.options import START, examples, positive
from roost.client.cli.running import Json, print_json, run, say
from roost.cluster.errors import InvalidField

MAX_TRIALS = 1_000


def register(app: typer.Typer) -> None:
    app.command(
        rich_help_panel=START,
        epilog=examples("roost chaos --list", "roost chaos --rows worker-killed --trials 3", "roost chaos --json > chaos.json"),
    )(chaos)


def chaos(
    *,
    rows: Annotated[str, typer.Option("--rows", metavar="A,B", help="Which rows; all of them if not given.", show_default=False)] = "",
    mode: Annotated[str, typer.Option("--mode", help="Only rows of this mode: central, gossip, hybrid.", show_default=False)] = "",
    trials: Annotated[int, typer.Option("--trials", metavar="N", min=1, max=MAX_TRIALS, help="How often each row is played.")] = 1,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Draws who falls, and when.")] = 1,
    duration: Annotated[
        float, typer.Option("--duration", metavar="S", callback=positive, help="Seconds of load in a trial; longer where faults are.")
    ] = 15.0,
    page_file: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", dir_okay=False, help="Write the page here.", show_default=False)
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", metavar="", help="Say which rows there are, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Break a cluster of real processes on this machine, under load, and count what callers lost."""

    async def main() -> ExitCode:
        chosen = choose(rows, mode)
        if list_only:
            for row in chosen:
                print(f"{row.name:20} {row.mode:8} {row.says}")
            return ExitCode.OK
        results = []
        for row in chosen:
            result = await run_row(row, trials=trials, seed=seed, duration_s=duration)
            say(f"{row.name}: {result.verdict}")
            results.append(result)
            if page_file is not None:  # after each row: who ends the command keeps what was measured
                page_file.write_text(page(results, trials=trials, duration_s=duration))
        if as_json:
            print_json({"seed": seed, "trials": trials, "duration_s": duration, "rows": [_view(result) for result in results]})
        else:
            _show(results)
        return ExitCode.FAILED if any(result.misses for result in results) else ExitCode.OK

    run(main, as_json=as_json)


def choose(names: str, mode: str) -> tuple[Row, ...]:
    """The rows of those names, all if empty, that have that mode, any if empty. Raises InvalidField."""
    known = {row.name for row in ROWS}
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    if wanted - known:
        raise InvalidField("rows", f"has no row {', '.join(sorted(wanted - known))}; there are {', '.join(row.name for row in ROWS)}")
    modes = sorted({row.mode for row in ROWS})
    if mode and mode not in modes:
        raise InvalidField("mode", f"must be one of {', '.join(modes)} (got {mode})")
    return tuple(row for row in ROWS if row.name in (wanted or known) and row.mode == (mode or row.mode))


def _show(results: Sequence[Result]) -> None:
    for result in results:
        print("  ".join(f"{name}: {value}" for name, value in zip(HEADINGS, cells(result), strict=True) if value))


def _view(result: Result) -> Json:
    return {
        "row": result.row.name,
        "mode": result.row.mode,
        "verdict": result.verdict,
        "is_whole": result.is_whole,
        "trials": [{**dataclasses.asdict(trial), "failures": list(trial.failures)} for trial in result.trials],
    }
