"""`roost simulate`: one run from one line, a table at its end."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from time import monotonic, process_time
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from roost.cluster.errors import InvalidField
from roost.placement.registry import DEFAULT_POLICY, policy_names
from roost.sim.arrivals import Arrivals, ClosedLoop, closed_loop, gamma, poisson
from roost.sim.checks import PLANES
from roost.sim.clients import Delays
from roost.sim.distributions import exponential
from roost.sim.faults import Fault, kill_coordinator, kill_worker, restart_coordinator, restart_worker
from roost.sim.fleet_of import equal_models, named_models
from roost.sim.links import Reports
from roost.sim.popularity import zipf
from roost.sim.run import Run
from roost.sim.simulation import Simulation
from roost.sim.summary import Summary, evenness, mean_by_worker, summarize
from roost.sim.traces import TraceRow, UnreadableTrace, models_of, read_trace, round_robin, scaled, skew_of, stripe
from roost.sim.workload import trace_asks

USAGE = 2  # the exit code of a command line that cannot be meant
PROGRESS_EVERY_S = 0.25
LAN = Delays(ask_s=0.001, send_s=0.0005, reply_s=0.0005)
GB = 1_000_000_000

EXAMPLES = """Examples:

  roost simulate --mode gossip --workers 20 --duration 60                 a cluster without a coordinator

  roost simulate --policy least-loaded --cache-models 4 --models 27       what it costs to ignore who holds what

  roost simulate --mode hybrid --kill-coordinator 20 --restart-coordinator 40

  roost simulate --trace arena27_trace.csv --workers 10 --json            a recorded day; formats: docs/simulator.md

The same line with the same seed gives the same numbers, bit for bit."""


def build_app() -> typer.Typer:
    """One command, which runs a simulation."""
    app = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.command(name="simulate", epilog=EXAMPLES)(simulate)
    return app


def main() -> None:
    """Entry point of `python -m roost.sim`."""
    arguments = sys.argv[1:]
    build_app()(arguments[1:] if arguments[:1] == ["simulate"] else arguments, prog_name="roost simulate")


def simulate(
    mode: Annotated[str, typer.Option(help=f"Who decides: {', '.join(PLANES)}.")] = "central",
    workers: Annotated[int, typer.Option(min=1, max=20_000, help="How many workers.")] = 10,
    slots: Annotated[int, typer.Option(min=1, max=1024, help="Requests that each runs at once.")] = 4,
    duration: Annotated[float, typer.Option(min=0.001, help="Seconds of virtual time in which requests arrive.")] = 60.0,
    trace: Annotated[Path | None, typer.Option(help="Replay the requests of this file instead of drawn ones.")] = None,
    policy: Annotated[str, typer.Option(help=f"How to choose: {', '.join(policy_names())}, power-of-3, ...")] = DEFAULT_POLICY,
    seed: Annotated[int, typer.Option(help="Where all chance comes from.")] = 1,
    models: Annotated[int, typer.Option(min=1, max=10_000, help="How many models there are.")] = 20,
    model_gb: Annotated[
        float, typer.Option(min=0.001, help="Size of each, in GB: decides how long it loads and how fast it runs.")
    ] = 16.06,
    zipf_alpha: Annotated[float, typer.Option("--zipf", min=0.0, help="Popularity: the k-th model in proportion to 1/k^ALPHA.")] = 1.0,
    cache_models: Annotated[int, typer.Option(min=1, help="Models that a worker's memory holds.")] = 4,
    rate: Annotated[float | None, typer.Option(help="Requests a second (default: 60 % of what the slots can do).")] = None,
    cv: Annotated[float, typer.Option(min=0.01, help="Burstiness: the CV of the gaps between requests; 1 is Poisson.")] = 1.0,
    clients: Annotated[int, typer.Option(min=0, help="Clients that wait for each answer, instead of a rate.")] = 0,
    think: Annotated[float, typer.Option(min=0.0, help="Mean seconds such a client waits before it asks again.")] = 0.0,
    service: Annotated[
        float | None, typer.Option(min=0.0, help="Mean seconds of service, exponential (default: by tokens, as the simulated engine).")
    ] = None,
    load: Annotated[float | None, typer.Option(min=0.0, help="Seconds of a load (default: by size).")] = None,
    time_scale: Annotated[float, typer.Option(min=0.0, help="Multiplies the engine's times; 0.1 is ten times as fast.")] = 1.0,
    report_interval: Annotated[
        float, typer.Option(min=0.05, max=60.0, help="Seconds between a worker's reports when nothing changes.")
    ] = 1.0,
    speed: Annotated[float, typer.Option(min=0.0001, help="Replay the trace so many times as fast.")] = 1.0,
    mapping: Annotated[str, typer.Option(help="Give a trace of one model to --models many: stripe or round-robin.")] = "",
    kill_coordinator_at: Annotated[list[float] | None, typer.Option("--kill-coordinator", help="When it falls; may be repeated.")] = None,
    restart_coordinator_at: Annotated[list[float] | None, typer.Option("--restart-coordinator", help="When it is back.")] = None,
    kill_worker_at: Annotated[list[str] | None, typer.Option("--kill-worker", metavar="S:N", help="At S seconds worker N falls.")] = None,
    restart_worker_at: Annotated[list[str] | None, typer.Option("--restart-worker", metavar="S:N", help="At S seconds it is back.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
) -> None:
    """Run a cluster in virtual time and say what became of the requests.

    The decisions, caches, slots and gossip are those of the services; only time, network and tokens are made up.
    """
    faults = _faults(kill_coordinator_at, restart_coordinator_at, kill_worker_at, restart_worker_at, workers)
    rows, names = _trace(trace, mapping, models, speed, seed, duration)
    size_bytes = round(model_gb * GB)
    specs = named_models(names, slots, size_bytes) if names else equal_models(models, slots, size_bytes)
    arrivals = None if rows else _arrivals(rate, cv, clients, think, workers * slots, service, time_scale, model_gb)
    try:
        simulation = Simulation(
            workers=workers,
            slots=slots,
            arrivals=arrivals,
            trace=trace_asks(rows, names) if rows else None,
            service=None if service is None else exponential(service) if service > 0 else 0.0,
            policy=policy,
            plane=mode,
            seed=seed,
            models=specs,
            popularity=None if rows else zipf(len(specs), zipf_alpha),
            cache_models=min(cache_models, len(specs)),
            load=load,
            time_scale=time_scale,
            warm=False,
            reports=Reports(interval_s=report_interval),
            delays=LAN,
            may_queue=True,
            faults=faults,
            sample_s=1.0,
        )
    except (InvalidField, ValueError) as error:
        _stop(str(error))
    began, burned = monotonic(), process_time()
    progress = _Progress(duration, began)
    run = simulation.run(duration_s=duration, progress=progress if sys.stderr.isatty() or not as_json else None)
    progress.end()
    _print(run, process_time() - burned, is_json=as_json, rows=rows)


# --- reading the line -----------------------------------------------------------------------------


def _stop(why: str) -> NoReturn:
    print(f"roost simulate: {why}", file=sys.stderr)
    raise typer.Exit(USAGE)


def _trace(
    path: Path | None, mapping: str, models: int, speed: float, seed: int, duration_s: float
) -> tuple[list[TraceRow], tuple[str, ...]]:
    if path is None:
        if mapping:
            _stop("--mapping: gives a trace to many models; say which with --trace FILE")
        return [], ()
    try:
        rows = scaled(read_trace(path, seed=seed), speed)
    except UnreadableTrace as error:
        _stop(f"--trace: {error}")
    except (OSError, UnicodeDecodeError) as error:
        _stop(f"--trace: {path} cannot be read: {getattr(error, 'strerror', None) or error}")
    rows = [row for row in rows if row.arrival_s <= duration_s]
    if not rows:
        _stop(f"--trace: {path} has no request within the first {duration_s:g} s; a larger --duration or --speed has")
    if mapping == "stripe":
        rows = stripe(rows, models)
    elif mapping == "round-robin":
        rows = round_robin(rows, models)
    elif mapping:
        _stop(f"--mapping: must be stripe or round-robin (got {mapping!r})")
    return rows, models_of(rows)


def _arrivals(
    rate: float | None, cv: float, clients: int, think: float, slots: int, service: float | None, time_scale: float, model_gb: float
) -> Arrivals | ClosedLoop:
    if clients:
        return closed_loop(clients, exponential(think) if think else 0.0, ramp_s=min(1.0, think))
    if rate is None:
        each_s = (
            service if service is not None else 1.3 * time_scale * model_gb / 16.06 * 2.0
        )  # 100 tokens at 12 ms, twice as slow when full
        rate = 0.6 * slots / each_s if each_s else 100.0
    if not 0 < rate < 1e7:
        _stop(f"--rate: must be more than 0 (got {rate:g})")
    return poisson(rate) if cv == 1.0 else gamma(rate, cv)


def _faults(
    kills: list[float] | None, restarts: list[float] | None, worker_kills: list[str] | None, worker_restarts: list[str] | None, workers: int
) -> list[Fault]:
    faults: list[Fault] = []
    for at in kills or ():
        faults += kill_coordinator(at)
    for at in restarts or ():
        faults += restart_coordinator(at)
    for option, makes, texts in (("--kill-worker", kill_worker, worker_kills), ("--restart-worker", restart_worker, worker_restarts)):
        for text in texts or ():
            at_s, number = _when_and_who(option, text, workers)
            faults += makes(at_s, number)
    return faults


def _when_and_who(option: str, text: str, workers: int) -> tuple[float, int]:
    when, _, who = text.partition(":")
    try:
        at_s, number = float(when), int(who)
    except ValueError:
        _stop(f"{option}: must be SECONDS:WORKER, such as 20:3 (got {text!r})")
    if at_s < 0 or not 0 <= number < workers:
        _stop(f"{option}: worker must be 0-{workers - 1} and the time 0 or more (got {text!r})")
    return at_s, number


# --- printing -------------------------------------------------------------------------------------


class _Progress:
    """A line on stderr that renews itself, on a terminal; a line every ten seconds elsewhere."""

    def __init__(self, duration_s: float, began: float) -> None:
        self._duration_s = duration_s
        self._began = began
        self._said_at = began
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, now_s: float, requests: int) -> None:
        clock = monotonic()
        if clock - self._said_at < (PROGRESS_EVERY_S if self._is_terminal else 10.0):
            return
        self._said_at = clock
        passed_s = clock - self._began
        line = f"{max(0.0, now_s):7.1f} of {self._duration_s:g} s simulated, {requests} requests, {requests / passed_s:,.0f} a second"
        sys.stderr.write(f"\r{line}\x1b[K" if self._is_terminal else f"{line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _print(run: Run, cpu_s: float, *, is_json: bool, rows: list[TraceRow]) -> None:
    record = run.record()
    summary = summarize(record)
    if is_json:
        depth = evenness(mean_by_worker(record.samples, "queue_depth"))
        whole = {**asdict(summary), "queue_depth": asdict(depth), "totals": dict(run.totals), "events": list(run.events)}
        print(json.dumps(_without_nan(whole)))
        return
    console = Console()
    console.print(_table(run, summary))
    if rows:
        skew = skew_of(rows)
        console.print(f"The trace: {skew.models} models, the most popular has {skew.top_share:.0%}, CV of their shares {skew.cv:.2f}.")
    for at_s, what in run.events[:20]:
        console.print(f"{at_s:8.2f} s  {what}")
    if len(run.events) > 20:
        console.print(f"          and {len(run.events) - 20} more; --json has all")
    console.print(
        f"{len(run.ledger) / cpu_s:,.0f} requests and {run.totals['events'] / cpu_s:,.0f} events simulated a second.", style="dim"
    )


def _table(run: Run, summary: Summary) -> Table:
    table = Table(title=f"{summary.plane}, {summary.policy}, {len(run.ledger.workers)} workers, seed {summary.seed}", show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("requests", f"{summary.requests:,}")
    table.add_row("served", f"{summary.success_rate:.2%}")
    table.add_row("cache hit rate", f"{summary.hit_rate:.2%}")
    table.add_row("loads, evictions", f"{run.totals['loads']:,.0f}, {run.totals['evictions']:,.0f}")
    table.add_row("time to first token p50, p95, p99", ", ".join(map(_ms, (summary.ttft_p50_s, summary.ttft_p95_s, summary.ttft_p99_s))))
    table.add_row("whole request p50, p95", f"{_ms(summary.sojourn_p50_s)}, {_ms(summary.sojourn_p95_s)}")
    table.add_row("served within the time", f"{summary.throughput_per_s:,.1f} a second")
    table.add_row("evenness of requests (Jain)", f"{summary.evenness_of_requests:.3f}")
    table.add_row("evenness of utilisation (Jain)", f"{summary.evenness_of_utilization:.3f}")
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"


def _without_nan(value: object) -> object:
    """JSON has no NaN: null says that nothing was measured."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124  # how NaN is told
