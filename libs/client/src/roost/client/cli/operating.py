"""The verbs of an operator: state, models, load, unload, unpin, drain."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated

import typer
from rich.live import Live

from roost.client.cli.connection import Connection, calls_cluster
from roost.client.cli.exits import ExitCode
from roost.client.cli.json_views import model_json, outcomes_json, state_json
from roost.client.cli.options import OPERATE, USE, AsJson, LongTimeout, Model, Timeout, examples, finite, positive
from roost.client.cli.running import error_text, print_json, run, say
from roost.client.cli.tables import console_for_stdout, models_table, state_view, table
from roost.client.client import RoostClient
from roost.client.errors import ClusterUnreachable
from roost.client.results import ClusterState, WorkerOutcome

RECONNECT_S = 1.0  # a watcher that lost the cluster asks again this often

Worker = Annotated[str, typer.Option("--worker", metavar="WORKER", help="Only this worker.", show_default=False)]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=USE, epilog=examples("roost state --watch", "roost state --json | jq .cache_hit_rate"))(state)
    app.command(rich_help_panel=USE, epilog=examples("roost models", "roost models --json | jq -r '.models[].name'"))(models)
    app.command(
        rich_help_panel=OPERATE, epilog=examples("roost load llama-7b --replicas 2", "roost load llama-7b --worker worker-1 --pin")
    )(load)
    app.command(rich_help_panel=OPERATE, epilog=examples("roost unload llama-7b", "roost unload llama-7b --worker worker-1 --when-free"))(
        unload
    )
    app.command(rich_help_panel=OPERATE, epilog=examples("roost unpin llama-7b", "roost unpin llama-7b --worker worker-1"))(unpin)
    app.command(rich_help_panel=OPERATE, epilog=examples("roost drain worker-2", "roost drain worker-2 --resume"))(drain)


@calls_cluster
def state(
    *,
    connection: Connection,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", metavar="", help="Show every change until Ctrl-C; with --json one object a line.")
    ] = False,
    interval: Annotated[float, typer.Option("--interval", metavar="S", callback=positive, help="Seconds between changes shown.")] = 1.0,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show the cluster: its workers, what they hold, how busy they are, and the hit rate."""

    async def main() -> None:
        async with connection.client(timeout_s=timeout) as client:
            if watch:
                await _watch(client, interval, as_json=as_json)
            else:
                _show(await client.state(), as_json=as_json)

    run(main, as_json=as_json)


def _show(cluster: ClusterState, *, as_json: bool) -> None:
    if as_json:
        print_json(state_json(cluster))
    else:
        console_for_stdout().print(state_view(cluster))


async def _watch(client: RoostClient, interval_s: float, *, as_json: bool) -> None:
    """Ends only by an error on the first answer; later losses are said once and waited out."""
    console = console_for_stdout()
    with Live(console=console, auto_refresh=False, screen=False) as live:
        has_answered = is_lost = False
        while True:
            try:
                async with aclosing(client.watch(interval_s)) as states:
                    async for cluster in states:
                        has_answered, is_lost = True, False
                        if as_json or not console.is_terminal:
                            _show(cluster, as_json=as_json)
                        else:
                            live.update(state_view(cluster), refresh=True)
            except ClusterUnreachable as error:
                if not has_answered:
                    raise
                if not is_lost:
                    say(f"roost: {error_text(error)} Waiting for it.")
                is_lost = True
                await asyncio.sleep(RECONNECT_S)


@calls_cluster
def models(*, connection: Connection, timeout: Timeout = 10.0, as_json: AsJson = False) -> None:
    """List every model the cluster knows, and where it is ready. Simulated ones say so."""

    async def main() -> None:
        async with connection.client(timeout_s=timeout) as client:
            known = await client.models()
        if as_json:
            print_json({"models": [model_json(snapshot) for snapshot in known]})
        else:
            console_for_stdout().print(models_table(known))

    run(main, as_json=as_json)


@calls_cluster
def load(
    model: Model,
    *,
    connection: Connection,
    replicas: Annotated[int | None, typer.Option("--replicas", metavar="N", help="Workers that should have it; 1 by default.")] = None,
    worker: Worker = "",
    pin: Annotated[bool, typer.Option("--pin", metavar="", help="Never evict it to make room.")] = False,
    timeout: LongTimeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Make MODEL ready on a worker, or on several; returns when it is. Ctrl-C calls the load off."""
    if replicas is not None and worker:
        raise typer.BadParameter("give --replicas or --worker, not both")
    if replicas is not None and replicas < 1:
        raise typer.BadParameter(f"--replicas must be 1 or more (got {replicas})")

    async def main() -> None:
        async with connection.client(long_timeout_s=timeout) as client:
            outcomes = await client.load_model(model, replicas=replicas or 0, worker_id=worker, pin=pin)
        _show_outcomes(model, outcomes, done="ready", unchanged="was ready", as_json=as_json)

    run(main, as_json=as_json)


@calls_cluster
def unload(
    model: Model,
    *,
    connection: Connection,
    worker: Worker = "",
    when_free: Annotated[
        bool, typer.Option("--when-free", metavar="", help="Wait until no request uses it; without this, it is refused while one does.")
    ] = False,
    timeout: LongTimeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Put MODEL out on a worker, or everywhere. A load of it that no request waits for is stopped."""

    async def main() -> None:
        async with connection.client(long_timeout_s=timeout) as client:
            outcomes = await client.unload_model(model, worker_id=worker, when_free=when_free)
        _show_outcomes(model, outcomes, done="put out", unchanged="did not have it", as_json=as_json)

    run(main, as_json=as_json)


@calls_cluster
def unpin(model: Model, *, connection: Connection, worker: Worker = "", timeout: Timeout = 10.0, as_json: AsJson = False) -> None:
    """Let MODEL be evicted again, on a worker or everywhere. It stays loaded until room is needed."""

    async def main() -> None:
        async with connection.client(timeout_s=timeout) as client:
            outcomes = await client.unpin_model(model, worker_id=worker)
        _show_outcomes(model, outcomes, done="unpinned", unchanged="was not pinned", as_json=as_json)

    run(main, as_json=as_json)


def _show_outcomes(model: str, outcomes: tuple[WorkerOutcome, ...], *, done: str, unchanged: str, as_json: bool) -> None:
    if as_json:
        print_json(outcomes_json(model, outcomes))
        return
    if not outcomes:
        print(f"no worker has {model}")
        return
    shown = table("WORKER", "RESULT", "SECONDS", right=("SECONDS",))
    for outcome in outcomes:
        shown.add_row(outcome.worker_id, unchanged if outcome.is_unchanged else done, f"{outcome.elapsed_s:.2f}")
    console_for_stdout().print(shown)


@calls_cluster
def drain(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Name of a worker (see `roost state`).", show_default=False)],
    *,
    connection: Connection,
    resume: Annotated[bool, typer.Option("--resume", metavar="", help="Let it take requests again.")] = False,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            metavar="S",
            callback=finite,
            help="Seconds for what runs there; then other workers go on with it from its last token.",
        ),
    ] = 30.0,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Let WORKER take nothing new, and finish what it has or hand it over."""

    async def main() -> ExitCode:
        async with connection.client(timeout_s=timeout) as client:
            unfinished = await client.drain_worker(worker, resume=resume, grace_s=None if resume else grace)
        if as_json:
            print_json({"worker_id": worker, "draining": not resume, "unfinished": unfinished})
        else:
            print(f"{worker} takes requests again" if resume else f"{worker} is draining; {unfinished} requests to finish")
        return ExitCode.OK

    run(main, as_json=as_json)
