"""The verbs that become a service: coordinator, worker, gossip, prepare, simulate, experiment. They hand everything on, --help included."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from roost.client.cli.exits import ExitCode
from roost.client.cli.options import SERVE
from roost.client.cli.running import say
from roost.client.extras import advice, missing_extra

PASS_ALL = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


def register(app: typer.Typer) -> None:
    app.command(context_settings=PASS_ALL, add_help_option=False, rich_help_panel=SERVE)(coordinator)
    app.command(context_settings=PASS_ALL, add_help_option=False, rich_help_panel=SERVE)(worker)
    app.command(context_settings=PASS_ALL, add_help_option=False, rich_help_panel=SERVE)(gossip)
    app.command(context_settings=PASS_ALL, add_help_option=False, rich_help_panel=SERVE)(prepare)
    app.command(context_settings=PASS_ALL, add_help_option=False, rich_help_panel=SERVE)(simulate)
    app.command(context_settings=PASS_ALL, add_help_option=False, rich_help_panel=SERVE)(experiment)


def coordinator(context: typer.Context) -> None:
    """Run a coordinator here. Its own options: roost coordinator --help."""
    become("roost.coordinator", context.args)


def worker(context: typer.Context) -> None:
    """Run a worker here. Its own options: roost worker --help."""
    become("roost.worker", context.args)


def gossip(context: typer.Context) -> None:
    """Run a gossip sidecar here, beside a worker. Its own options: roost gossip --help."""
    become("roost.gossip", context.args)


def prepare(context: typer.Context) -> None:
    """Fetch or build the files of models before they are asked for. Its own options: roost prepare --help."""
    become("roost.worker", ["prepare", *context.args])


def simulate(context: typer.Context) -> None:
    """Run a whole cluster in virtual time, from a seed. Its own options: roost simulate --help."""
    become("roost.sim", context.args)


def experiment(context: typer.Context) -> None:
    """Compare the planes, simulated or on real processes, and write a report. Its own options: roost experiment --help."""
    become("roost.sim.experiments", context.args)


def become(package: str, arguments: list[str]) -> NoReturn:
    """Replaces this process by `python -m package`."""
    extra = missing_extra(package)
    if extra is not None:
        say(advice({extra}))
        raise typer.Exit(ExitCode.FAILED)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", package, *arguments])  # noqa: S606 - no shell is wanted
