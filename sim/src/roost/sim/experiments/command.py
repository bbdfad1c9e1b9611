"""`roost experiment`: runs an experiment, writes its report, and says what it found."""

from __future__ import annotations

import asyncio
import enum
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from roost.cluster.errors import RoostError
from roost.placement.registry import policy_factory
from roost.sim.clients import Delays
from roost.sim.experiments import evenness, faults, performance, reality, simulated
from roost.sim.experiments.live import run_live, run_measured
from roost.sim.experiments.outcome import Carry, Outcome, Progress
from roost.sim.experiments.plan import CENTRAL, GOSSIP, HYBRID, Plan, Setup
from roost.sim.experiments.pool import carried_out
from roost.sim.experiments.report import write
from roost.sim.records import RunRecord

SIMULATOR: Final = "the simulator"
PROCESSES: Final = "real processes of this machine"
SEEDS, LIVE_SEEDS, QUICK_SEEDS = 5, 2, 2
REALITY_SEEDS = 8  # single runs by gossip differ by two to three points of hits: a difference of two is not seen with fewer
QUICK_S = 30.0


class Which(enum.StrEnum):
    """The experiments."""

    PERFORMANCE = "1"
    FAULTS = "2"
    EVENNESS = "3"
    REALITY = "reality"
    ALL = "all"


def experiment(  # noqa: PLR0913 - a command's options are its parameters
    which: Annotated[
        Which,
        typer.Argument(
            help="1: performance; 2: fault tolerance; 3: evenness; reality: the simulator against real processes; "
            "all: 1, 2 and 3, and with --live reality too.",
            show_choices=True,
        ),
    ],
    *,
    live: Annotated[bool, typer.Option("--live", help="On real processes of this machine instead of the simulator.")] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            max=1000,
            metavar="N",
            help=f"Runs with the seeds 1-N ({SEEDS}, {REALITY_SEEDS} for reality, or else {LIVE_SEEDS} live, if not given).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", file_okay=False, metavar="DIR", help="Where the reports go.")] = Path("experiments"),
    policy: Annotated[str, typer.Option("--policy", metavar="NAME", help="How a worker is chosen, in both planes.")] = Setup().policy,
    quick: Annotated[bool, typer.Option("--quick", help="A look: runs of 30 s, two seeds, no sweeps. Not for conclusions.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, max=64, metavar="N", help="Simulated runs at once, each in a process of its own.")
    ] = os.cpu_count() or 1,
    as_json: Annotated[bool, typer.Option("--json", help="What was found, as one JSON object on stdout.")] = False,
) -> None:
    """Compare the planes and write a report with its plots.

    The simulator's results are the same at every run with the same options. Real processes are this machine's, and are not.
    """
    try:
        policy_factory(policy)
    except RoostError as error:
        sys.stderr.write(f"roost: {error}\n")
        raise typer.Exit(2) from None
    usual = QUICK_SEEDS if quick else REALITY_SEEDS if which is Which.REALITY else LIVE_SEEDS if live else SEEDS
    chosen = range(1, (seeds or usual) + 1)
    setup = replace(Setup(policy=policy), duration_s=QUICK_S if quick else Setup().duration_s)
    console, began = Console(stderr=True), time.monotonic()

    def progress(what: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.0f} s[/dim]  {what}", highlight=False)

    command = _command(which, is_live=live, seeds=len(chosen), quick=quick, policy=policy)
    outcomes: list[Outcome] = []
    try:
        with _orderly_sigterm():
            for outcome in _outcomes(which, setup, chosen, is_live=live, is_quick=quick, jobs=jobs, progress=progress):
                is_real = live or outcome.number == reality.NUMBER
                folder = out / "live" if live and outcome.number != reality.NUMBER else out
                report = write(outcome, setup, chosen, command, PROCESSES if is_real else SIMULATOR, folder)
                outcomes.append(outcome)
                progress(f"wrote {report}")
    except RoostError as error:
        sys.stderr.write(f"roost: {error}\n")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json:
        sys.stdout.write(
            json.dumps({"seconds": round(time.monotonic() - began, 1), "experiments": [_found(outcome) for outcome in outcomes]}) + "\n"
        )
        return
    for outcome in outcomes:
        _say(outcome)


@contextmanager
def _orderly_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that its processes end with it and no folder of theirs stays."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _outcomes(  # noqa: PLR0913 - what was asked for
    which: Which, setup: Setup, seeds: Sequence[int], *, is_live: bool, is_quick: bool, jobs: int, progress: Progress
) -> Iterator[Outcome]:
    """One after the other, so that each is written down as soon as it is there."""
    is_simulated = not is_live
    planes = (CENTRAL, GOSSIP, HYBRID) if is_simulated else (CENTRAL, GOSSIP)
    has_sweeps = is_simulated and not is_quick
    numbers = {Which.PERFORMANCE: (1,), Which.FAULTS: (2,), Which.EVENNESS: (3,), Which.REALITY: (), Which.ALL: (1, 2, 3)}[which]
    wanted = {
        1: performance.plans(setup, seeds, has_sweeps=has_sweeps),
        2: faults.plans(setup, seeds, planes),
        3: evenness.plans(setup, seeds),
    }
    asked = [plan for number in numbers for plan in wanted[number]]
    carry = _live_carry(progress) if is_live else carried_out(asked, jobs, _counting(len(dict.fromkeys(asked)), progress)).__getitem__
    for number in numbers:
        if number == performance.NUMBER:
            yield performance.conclude(carry, setup, seeds, has_sweeps=has_sweeps)
        elif number == faults.NUMBER:
            yield faults.conclude(carry, setup, seeds, planes)
        else:
            yield evenness.conclude(carry, setup, seeds)
    if which is Which.REALITY or (which is Which.ALL and is_live):
        yield reality.run(lambda plan: asyncio.run(run_measured(plan)), _simulate, setup, seeds, progress)


def _simulate(plan: Plan, delays: Delays, chance: int) -> RunRecord:
    return simulated.carry(plan, delays=delays, chance=chance)


def _live_carry(progress: Progress) -> Carry:
    """Each plan once: two experiments may ask for the same."""
    found: dict[Plan, RunRecord] = {}

    def carry(plan: Plan) -> RunRecord:
        if plan not in found:
            fault = f", {plan.faults[0].victim} dies" if plan.faults else ""
            progress(f"{plan.plane}, seed {plan.seed}{fault}: {plan.setup.duration_s:g} s on real processes")
            found[plan] = asyncio.run(run_live(plan))
        return found[plan]

    return carry


def _counting(total: int, progress: Progress) -> Callable[[int, Plan], None]:
    def done(count: int, plan: Plan) -> None:
        if count % max(1, total // 20) == 0 or count == total:
            progress(f"{count} of {total} runs; the last: {plan.plane}, {plan.setup.workers} workers, seed {plan.seed}")

    return done


def _found(outcome: Outcome) -> dict[str, object]:
    claims = [{"hypothesis": claim.hypothesis, "verdict": claim.verdict.value, "because": claim.because} for claim in outcome.claims]
    return {"number": outcome.number, "title": outcome.title, "question": outcome.question, "claims": claims}


def _say(outcome: Outcome) -> None:
    console = Console(highlight=False)
    console.print(f"\n[bold]{outcome.number}. {outcome.title}[/bold]  {outcome.question}")
    for claim in outcome.claims:
        console.print(f"  [bold]{claim.verdict.value}[/bold]  {claim.hypothesis}")
        console.print(f"      {claim.because}")


def _command(which: Which, *, is_live: bool, seeds: int, quick: bool, policy: str) -> str:
    words = ["roost experiment", which.value, *(["--live"] if is_live else []), f"--seeds {seeds}", *(["--quick"] if quick else [])]
    return " ".join([*words, *([f"--policy {policy}"] if policy != Setup().policy else [])])
