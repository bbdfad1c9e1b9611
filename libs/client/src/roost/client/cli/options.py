"""Options that several verbs share, declared once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from roost.client.targets import DEFAULT_TARGET

DEFAULT_TARGETS = [DEFAULT_TARGET]
CLUSTER_PANEL = "The cluster"

START, USE, OPERATE, SERVE = "Start", "Use a cluster", "Operate a cluster", "Run one part of a cluster"  # families of verbs in --help


def examples(*lines: str) -> str:
    """The end of a verb's --help: commands to copy."""
    return "Examples:\n" + "\n".join(f"$ {line}" for line in lines)


def finite(value: float | None) -> float | None:
    """Typer's numbers include nan and inf, which no bound of ours means."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("must be a finite number")
    return value


def not_negative(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise typer.BadParameter("must be a finite number, 0 or more")
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
        show_default=False,
        help=f"A coordinator, or any sidecar ({DEFAULT_TARGET} if not given); repeat it for several, which are tried in order.",
        rich_help_panel=CLUSTER_PANEL,
    ),
]
TlsAuthority = Annotated[
    Path | None,
    typer.Option(
        "--tls-authority",
        metavar="FILE",
        envvar="ROOST_TLS_AUTHORITY",
        help="PEM file of the authority that signed the servers' certificates; turns TLS on.",
        show_default=False,
        rich_help_panel=CLUSTER_PANEL,
    ),
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option(
        "--tls-certificate",
        metavar="FILE",
        envvar="ROOST_TLS_CERTIFICATE",
        help="PEM file with your own certificate, where servers ask for one.",
        show_default=False,
        rich_help_panel=CLUSTER_PANEL,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(
        "--tls-key",
        metavar="FILE",
        envvar="ROOST_TLS_KEY",
        help="PEM file with its key.",
        show_default=False,
        rich_help_panel=CLUSTER_PANEL,
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="S", callback=positive, help="Seconds to wait for the answer.")]
LongTimeout = Annotated[float, typer.Option("--timeout", metavar="S", callback=positive, help="Seconds the whole may take.")]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object on stdout.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Catalogue name of a model (see `roost models`).", show_default=False)]
Priority = Annotated[int, typer.Option("--priority", metavar="P", help="0-9; higher is served first.")]
RequestId = Annotated[str, typer.Option("--request-id", metavar="ID", help="Your name for the request.", show_default=False)]
