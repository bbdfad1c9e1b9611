"""`roost up`: a whole cluster on this machine, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roost.client.cli.cluster_life import ClusterLife, UpOptions
from roost.client.cli.exits import ExitCode
from roost.client.cli.options import finite, positive
from roost.client.cli.running import run, say
from roost.client.cli.serving import is_installed
from roost.client.local.plan import ClusterOptions, plan_cluster

COORDINATOR_PORT = 9000
BASE_WORKER_PORT = 8000
BASE_METRICS_PORT = 9100
PROMPT = "Once upon a time"


def register(app: typer.Typer) -> None:
    app.command(
        epilog="Examples: roost up --workers 3  |  roost up --workers 2 --duration 30 --memory 300MB  |  "
        'roost up --model gemma-3-270m --prompt "The capital of France is". '
        "Ctrl-C stops everything within 5 s and exits with 0; a second one kills at once and exits with 130."
    )(up)


def up(
    *,
    workers: Annotated[int, typer.Option("--workers", "-n", metavar="N", help="Worker processes, 1-64.")] = 3,
    duration: Annotated[
        float, typer.Option("--duration", metavar="S", callback=finite, min=0.0, help="Seconds to run once ready; 0: until Ctrl-C.")
    ] = 0.0,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where every process listens.")] = "127.0.0.1",
    coordinator_port: Annotated[int, typer.Option("--coordinator-port", metavar="PORT", help="Its own port.")] = COORDINATOR_PORT,
    base_worker_port: Annotated[
        int, typer.Option("--base-worker-port", metavar="PORT", help="Worker i (from 1) listens on PORT + i.")
    ] = BASE_WORKER_PORT,
    base_metrics_port: Annotated[
        int, typer.Option("--base-metrics-port", metavar="PORT", help="The coordinator's metrics; worker i has PORT + i.")
    ] = BASE_METRICS_PORT,
    metrics: Annotated[
        bool, typer.Option("--metrics/--no-metrics", help="Metrics on those ports, or on any free ones that nobody knows.")
    ] = True,
    models: Annotated[
        Path | None,
        typer.Option("--models", metavar="FILE", exists=True, dir_okay=False, readable=True, resolve_path=True, help="A model catalogue."),
    ] = None,
    policy: Annotated[str, typer.Option("--policy", metavar="NAME", help="How the coordinator chooses.", show_default=False)] = "",
    memory: Annotated[str, typer.Option("--memory", metavar="SIZE", help="Each worker's memory for models, such as 300MB.")] = "",
    slots: Annotated[
        int | None, typer.Option("--slots", metavar="N", help="Requests each worker runs at once.", show_default=False)
    ] = None,
    log_dir: Annotated[
        Path | None,
        typer.Option("--log-dir", metavar="DIR", file_okay=False, help="Folder for one log file a process.", show_default=False),
    ] = None,
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="Answer a first request with it.", show_default=False)] = "",
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What the first request continues.")] = PROMPT,
    max_tokens: Annotated[int, typer.Option("--max-tokens", metavar="N", help="Tokens of the first request; 0: the model's default.")] = 0,
    start_timeout: Annotated[
        float, typer.Option("--start-timeout", metavar="S", callback=positive, help="Seconds until every worker must have registered.")
    ] = 60.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Let the processes log more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end on stdout; the rest goes to stderr.")] = False,
) -> None:
    """Run a cluster of real processes on this machine until Ctrl-C, and show how it does."""
    _check_installed()

    async def main() -> ExitCode:
        cluster = ClusterOptions(
            workers=workers,
            host=host,
            coordinator_port=coordinator_port,
            base_worker_port=base_worker_port,
            metrics_port=base_metrics_port if metrics else None,
            models=str(models or ""),
            policy=policy,
            memory=memory,
            slots=slots,
            is_verbose=verbose,
        )
        options = UpOptions(duration, start_timeout, log_dir, model, prompt, max_tokens, as_json)
        return await ClusterLife(cluster, plan_cluster(cluster), options).run()

    run(main, as_json=as_json)


def _check_installed() -> None:
    missing = [package for package in ("roost.coordinator", "roost.worker") if not is_installed(package)]
    if missing:
        say(f"roost: {' and '.join(missing)} must be installed here for `roost up`; install {' '.join(missing).replace('.', '-')}.")
        raise typer.Exit(ExitCode.FAILED)
