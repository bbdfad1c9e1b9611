"""`roost traffic`: a bounded load, so that dashboards move and queues fill."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Annotated

import typer

from roost.client.cli.connection import Connection, calls_cluster
from roost.client.cli.exits import ExitCode
from roost.client.cli.options import OPERATE, AsJson, examples, finite, not_negative, positive
from roost.client.cli.running import Json, print_json, run
from roost.client.traffic import Traffic, TrafficCounts, TrafficOptions, models_that_fit
from roost.cluster.worker_state import CacheResult


def register(app: typer.Typer) -> None:
    app.command(
        rich_help_panel=OPERATE,
        epilog=examples("roost traffic", "roost traffic --models llama-7b,gpt-neo-2.7b --rate 5 --duration 60 --zipf 1.1 --seed 7"),
    )(traffic)


@calls_cluster
def traffic(
    *,
    connection: Connection,
    models: Annotated[
        str, typer.Option("--models", metavar="A,B,…", help="Models, the most popular first; if empty, all that fit a worker.")
    ] = "",
    rate: Annotated[float, typer.Option("--rate", metavar="R", callback=positive, help="Requests a second on average (Poisson).")] = 2.0,
    duration: Annotated[
        float, typer.Option("--duration", metavar="S", callback=not_negative, help="Seconds of new requests; 0: until Ctrl-C.")
    ] = 30.0,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="C", help="Requests at once at most; those beyond are counted as skipped.")
    ] = 32,
    max_tokens: Annotated[int, typer.Option("--max-tokens", metavar="N", help="Tokens of each request.")] = 16,
    zipf: Annotated[
        float, typer.Option("--zipf", metavar="A", callback=finite, help="The k-th model is asked for by 1/k^A; 0: all alike.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Repeats arrivals and choices.", show_default=False)] = None,
    request_timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", callback=positive, help="Seconds one request may take.")
    ] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Send requests at a steady rate, whether or not the cluster keeps up, and count what became of them."""
    names = tuple(name.strip() for name in models.split(",") if name.strip())

    async def main() -> ExitCode:
        options = TrafficOptions(names or ("every one",), rate, duration, concurrency, max_tokens, zipf, request_timeout)
        async with connection.client() as client:
            fitting = models_that_fit(await client.state())  # also says at once that nobody answers
            run_of_it = Traffic(client, options if names else replace(options, models=fitting), random.Random(seed))  # noqa: S311 - arrivals, no secrets
            with ended_by_signals(), suppress(asyncio.CancelledError):  # what was counted until then is shown
                await run_of_it.run()
        _show(run_of_it.counts, as_json=as_json)
        has_only_failed = run_of_it.counts.failed.total() > 0 and run_of_it.counts.ok == 0
        return ExitCode.FAILED if has_only_failed else ExitCode.OK

    run(main, as_json=as_json)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM cancel the block: they are how a run without a duration ends."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, lambda: task is not None and task.cancel())
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _show(counts: TrafficCounts, *, as_json: bool) -> None:
    if as_json:
        print_json(_counts_json(counts))
        return
    print(
        f"sent {counts.sent}, ok {counts.ok}, failed {counts.failed.total()}, "
        f"unfinished {counts.unfinished}, skipped {counts.skipped}, tokens {counts.tokens}"
    )
    for reason, count in counts.failed.most_common():
        print(f"  failed {count} × {reason}")
    found = ", ".join(f"{counts.cache[result]} {result.value}" for result in CacheResult)
    print(f"hit rate {counts.hit_rate:.1%} ({found})")
    print(f"time to first token p50 {counts.first_token_at(0.5):.3f} s, p95 {counts.first_token_at(0.95):.3f} s")


def _counts_json(counts: TrafficCounts) -> dict[str, Json]:
    return {
        "sent": counts.sent,
        "ok": counts.ok,
        "failed": counts.failed.total(),
        "failed_by_reason": dict(counts.failed),
        "unfinished": counts.unfinished,
        "skipped": counts.skipped,
        "tokens": counts.tokens,
        "hit_rate": counts.hit_rate,
        "cache": {result.value: counts.cache[result] for result in CacheResult},
        "ttft_p50_s": counts.first_token_at(0.5),
        "ttft_p95_s": counts.first_token_at(0.95),
    }
