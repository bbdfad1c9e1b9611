"""The `roost` command, put together from its families of verbs."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from roost.client.cli import asking, chaos, explaining, gossiping, operating, replaying, serving, traffic, up
from roost.client.cli.exits import exit_codes_help

START_HERE = """Start here:
  roost up                                         a cluster on this machine, until Ctrl-C
  roost generate gemma-3-270m "Once upon a time"   in another terminal"""


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"roost {importlib.metadata.version('roost-serving')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Roost runs inference requests on the worker that already holds the model."""


def build_app() -> typer.Typer:
    """The whole command tree."""
    app = typer.Typer(
        name="roost",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        epilog=f"{START_HERE}\n\n{exit_codes_help()}",
    )
    app.callback()(_root)
    for family in (up, asking, operating, explaining, replaying, gossiping, traffic, serving, chaos):
        family.register(app)
    return app


def main() -> None:
    """Entry point of the `roost` command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # text of a model must not end the command on a narrow terminal
    build_app()()
