"""`python -m roost.sim.experiments`, which `roost experiment` becomes."""

from __future__ import annotations

import typer

from roost.sim.experiments.command import experiment


def main() -> None:
    """Runs the command."""
    app = typer.Typer(
        name="roost experiment", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, add_completion=False
    )
    app.command()(experiment)
    app(prog_name="roost experiment")


if __name__ == "__main__":
    main()
