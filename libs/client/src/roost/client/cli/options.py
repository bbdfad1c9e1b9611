"""Options that several verbs share, declared once."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from roost.client.targets import DEFAULT_TARGET

DEFAULT_TARGETS = [DEFAULT_TARGET]


def finite(value: float | None) -> float | None:
    """Typer's numbers include nan and inf, which no bound of ours means."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("must be a finite number")
    return value


def positive(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise typer.BadParameter("must be a finite number above 0")
    return value


Coordinators = Annotated[
    list[str],
    typer.Option(
        "--coordinator",
        "-c",
        metavar="HOST:PORT",
        envvar="ROOST_COORDINATOR",
        show_default=DEFAULT_TARGET,
        help="Where the cluster is called; repeat it for several, which are tried in order.",
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="S", callback=positive, help="Seconds to wait for the answer.")]
LongTimeout = Annotated[float, typer.Option("--timeout", metavar="S", callback=positive, help="Seconds the whole may take.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Catalogue name of a model (see `roost models`).", show_default=False)]
Priority = Annotated[int, typer.Option("--priority", metavar="P", help="0-9; higher is served first.")]
RequestId = Annotated[str, typer.Option("--request-id", metavar="ID", help="Your name for the request.", show_default=False)]
