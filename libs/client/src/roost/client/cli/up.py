"""`roost up`: a whole cluster on this machine, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roost.client.cli.cluster_life import ClusterLife, UpOptions
from roost.client.cli.exits import ExitCode
from roost.client.cli.options import START, examples, not_negative, positive
from roost.client.cli.running import run, say
from roost.client.extras import advice, missing_extra
from roost.client.local.outward import advertised_host
from roost.client.local.plan import ClusterOptions, Mode, plan_cluster
from roost.service.machine import model_memory_bytes

COORDINATOR_PORT = 9000
BASE_WORKER_PORT = 8000
BASE_METRICS_PORT = 9100
BASE_GOSSIP_PORT = 7945
BASE_SIDECAR_PORT = 7845
PROMPT = "Once upon a time"
MAX_TOKENS = 32  # of the first request: its answer is to be on the screen soon
FIRST = "The first request"
PLACES = "Addresses and ports"


def register(app: typer.Typer) -> None:
    app.command(
        rich_help_panel=START,
        epilog=examples(
            "roost up",
            'roost up --model gemma-3-270m --prompt "The capital of France is"',
            "roost up --workers 2 --memory 300MB --duration 30",
        )
        + "\n\nCtrl-C stops everything within 5 s and exits with 0; a second one kills at once and exits with 130.",
    )(up)


def up(
    *,
    workers: Annotated[int, typer.Option("--workers", "-n", metavar="N", help="Worker processes, 1-64.")] = 3,
    mode: Annotated[
        Mode, typer.Option("--mode", help="Who decides: one coordinator, or a gossip sidecar beside each worker and no coordinator.")
    ] = Mode.CENTRAL,
    duration: Annotated[
        float,
        typer.Option(
            "--duration", metavar="S", callback=not_negative, help="Seconds to run once ready; 0: until Ctrl-C.", show_default=False
        ),
    ] = 0.0,
    policy: Annotated[str, typer.Option("--policy", metavar="NAME", help="How a worker is chosen.", show_default=False)] = "",
    models: Annotated[
        Path | None,
        typer.Option(
            "--models",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            resolve_path=True,
            help="Your model catalogue (models.toml), instead of the one that ships.",
        ),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="Each worker's memory for models, such as 300MB; by default they share 60% of this machine's.",
            show_default=False,
        ),
    ] = "",
    slots: Annotated[
        int | None, typer.Option("--slots", metavar="N", help="Requests each worker runs at once.", show_default=False)
    ] = None,
    aging: Annotated[
        float | None,
        typer.Option(
            "--aging",
            metavar="S",
            callback=positive,
            help="Seconds of waiting that raise a request's priority by one, in every scheduler and on every worker.",
            show_default=False,
        ),
    ] = None,
    log_dir: Annotated[
        Path | None,
        typer.Option(
            "--log-dir",
            metavar="DIR",
            file_okay=False,
            help="Folder for one log file a process; a new temporary one if not given.",
            show_default=False,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="DIR",
            file_okay=False,
            resolve_path=True,
            help="Folder in which each decider records its decisions for `roost replay`: coordinator.jsonl, or sidecar-1.jsonl and so on.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL", help="Generate with it as soon as the cluster is ready.", show_default=False, rich_help_panel=FIRST
        ),
    ] = "",
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="TEXT", help="What the first request continues.", rich_help_panel=FIRST)
    ] = PROMPT,
    max_tokens: Annotated[
        int,
        typer.Option("--max-tokens", metavar="N", help="Tokens of it at most; 0: the model's default.", rich_help_panel=FIRST),
    ] = MAX_TOKENS,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Where every process listens. 0.0.0.0 lets other machines in; nobody is asked who they are.",
            rich_help_panel=PLACES,
        ),
    ] = "127.0.0.1",
    advertise: Annotated[
        str,
        typer.Option(
            "--advertise",
            metavar="HOST",
            help="Name or address by which clients reach the workers. If not given: that of --host, "
            "or for 0.0.0.0 this machine's address in its network.",
            show_default=False,
            rich_help_panel=PLACES,
        ),
    ] = "",
    coordinator_port: Annotated[
        int, typer.Option("--coordinator-port", metavar="PORT", help="Where the cluster is called.", rich_help_panel=PLACES)
    ] = COORDINATOR_PORT,
    base_worker_port: Annotated[
        int, typer.Option("--base-worker-port", metavar="PORT", help="Worker i (from 1) listens on PORT + i.", rich_help_panel=PLACES)
    ] = BASE_WORKER_PORT,
    base_metrics_port: Annotated[
        int,
        typer.Option(
            "--base-metrics-port",
            metavar="PORT",
            help="The coordinator's metrics; worker i has PORT + i, its sidecar PORT + 100 + i.",
            rich_help_panel=PLACES,
        ),
    ] = BASE_METRICS_PORT,
    base_gossip_port: Annotated[
        int,
        typer.Option("--base-gossip-port", metavar="PORT", help="Sidecar i (from 1) gossips on PORT + i.", rich_help_panel=PLACES),
    ] = BASE_GOSSIP_PORT,
    base_sidecar_port: Annotated[
        int,
        typer.Option("--base-sidecar-port", metavar="PORT", help="Sidecar i is called at PORT + i.", rich_help_panel=PLACES),
    ] = BASE_SIDECAR_PORT,
    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics/--no-metrics",
            metavar="",
            help="Metrics on those ports; --no-metrics: on any free ones, so that none is needed.",
            show_default=False,
            rich_help_panel=PLACES,
        ),
    ] = True,
    start_timeout: Annotated[
        float, typer.Option("--start-timeout", metavar="S", callback=positive, help="Seconds in which every worker must be ready.")
    ] = 60.0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", metavar="", help="Let the processes log more.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print one JSON object at the end on stdout; the rest goes to stderr.")
    ] = False,
) -> None:
    """Run a cluster of real processes on this machine until Ctrl-C, and show how it does."""
    _check_installed(mode)

    async def main() -> ExitCode:
        cluster = ClusterOptions(
            workers=workers,
            host=host,
            coordinator_port=coordinator_port,
            base_worker_port=base_worker_port,
            metrics_port=base_metrics_port if metrics else None,
            models=str(models or ""),
            policy=policy,
            memory=memory or str(model_memory_bytes(workers)),
            slots=slots,
            advertised_host=advertised_host(host, advertise),
            is_verbose=verbose,
            mode=mode,
            base_gossip_port=base_gossip_port,
            base_sidecar_port=base_sidecar_port,
            record_dir=str(record or ""),
            aging_s=aging,
        )
        options = UpOptions(duration, start_timeout, log_dir, model, prompt, max_tokens, as_json)
        return await ClusterLife(cluster, plan_cluster(cluster), options).run()

    run(main, as_json=as_json)


def _check_installed(mode: Mode) -> None:
    decider = "roost.coordinator" if mode is Mode.CENTRAL else "roost.gossip"
    missing = {extra for package in (decider, "roost.worker") if (extra := missing_extra(package))}
    if missing:
        say(advice(missing))
        raise typer.Exit(ExitCode.FAILED)
