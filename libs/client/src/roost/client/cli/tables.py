"""What people see of the cluster: Rich tables that keep their width where nobody looks at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from roost.client.results import ClusterState, ModelSnapshot, PassedOverWorker, WorkerSnapshot
from roost.cluster.worker_state import CacheCounters, Liveness, Phase

PIPED_WIDTH = 200  # columns of a table that is read by a program: nothing is folded

_STYLE_OF = {Liveness.LIVE: "green", Liveness.SUSPECT: "yellow", Liveness.DEAD: "red"}


def console_for(stream: TextIO) -> Console:
    """A console on `stream`; a pipe is given room enough not to fold names."""
    return Console(file=stream, width=None if stream.isatty() else PIPED_WIDTH, highlight=False)


def console_for_stdout() -> Console:
    """A console on the stdout of now."""
    return console_for(sys.stdout)


def size_text(size_bytes: int) -> str:
    """Bytes as people write them: 253.1 MB, 13.5 GB; a dash for 0, which means none or not known."""
    if size_bytes == 0:
        return "-"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} B"


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_list = "MODELS" in column or column.endswith(" ON")
        made.add_column(column, justify="right" if column in right else "left", overflow="fold", no_wrap=not is_list)
    return made


def totals_line(state: ClusterState) -> str:
    """The cluster in one line."""
    return (
        f"{state.active_workers} active of {len(state.workers)} workers · {state.total_requests} requests · "
        f"hit rate {state.cache_hit_rate:.1%} · {state.cold_starts} cold starts · {state.joins} joins · "
        f"queue {state.total_queue_depth} · GPU {state.average_gpu_utilization:.0%} · policy {state.policy or '-'}"
    )


def _residents(worker: WorkerSnapshot) -> str:
    names = [
        model.name + ("" if model.phase is Phase.READY else " (loading)") + (" (pinned)" if model.is_pinned else "")
        for model in sorted(worker.state.models.values(), key=lambda model: model.name)
    ]
    return ", ".join(names) or "-"


def _liveness(worker: WorkerSnapshot) -> Text:
    text = worker.liveness.value + (", draining" if worker.state.is_draining else "")
    return Text(text, style=_STYLE_OF[worker.liveness])


def workers_table(workers: Sequence[WorkerSnapshot]) -> Table:
    """One row a worker: what it holds and how busy it is."""
    numbers = ("AGE", "SLOTS", "QUEUE", "GPU")
    made = table("WORKER", "LIVENESS", "AGE", "MODELS", "SLOTS", "QUEUE", "GPU", "MEMORY", "ADDRESS", right=numbers)
    for worker in workers:
        state = worker.state
        made.add_row(
            Text(state.node_id),
            _liveness(worker),
            f"{worker.age_s:.1f} s",
            Text(_residents(worker)),
            f"{state.busy_slots}/{state.slots}",
            str(state.queue_depth),
            f"{state.gpu_utilization:.0%}",
            f"{size_text(state.memory_used_bytes)} / {size_text(state.memory_capacity_bytes)}",
            Text(state.address or "-"),
        )
    return made


def state_view(state: ClusterState) -> Group:
    """Totals, then the workers."""
    return Group(Text(totals_line(state)), workers_table(state.workers))


def models_table(models: Sequence[ModelSnapshot]) -> Table:
    """One row a model. What has no weights behind it says so, and where it fails, if it does anywhere."""
    fails = ("FAILS ON",) if any(snapshot.passed_over for snapshot in models) else ()
    made = table("MODEL", "ENGINE", "SIZE", "READY ON", "LOADING ON", *fails, right=("SIZE",))
    for snapshot in models:
        engine = Text(snapshot.model.engine)
        if snapshot.model.is_simulated:
            engine.append(" (SIMULATED: no real weights)" if snapshot.model.engine == "simulated" else " (SIMULATED)", style="yellow")
        made.add_row(
            Text(snapshot.model.name),
            engine,
            size_text(snapshot.model.size_bytes),
            Text(", ".join(snapshot.ready_on) or "-"),
            Text(", ".join(snapshot.loading_on) or "-"),
            *(Text("; ".join(map(passed_over_text, snapshot.passed_over)) or "-") for _ in fails),
        )
    return made


def passed_over_text(worker: PassedOverWorker) -> str:
    """Who, why, and for how long."""
    when = f"is asked again in {worker.retry_in_s:.1f} s" if worker.retry_in_s else "is being tried with one request at a time"
    return f"{worker.worker_id} {when}: {worker.why}"


def summary_table(workers: Sequence[WorkerSnapshot]) -> Table:
    """One row a worker: what it has done since it started."""
    counts = ("REQUESTS", "HITS", "COLD", "JOINS", "LOADS", "EVICTED")
    made = table("WORKER", "LIVENESS", *counts, "READY MODELS", right=counts)
    for worker in workers:
        cache = worker.state.cache or CacheCounters()
        made.add_row(
            Text(worker.state.node_id),
            _liveness(worker),
            str(cache.hits + cache.cold_starts + cache.joins),
            *(str(count) for count in (cache.hits, cache.cold_starts, cache.joins, cache.loads, cache.evictions)),
            Text(", ".join(worker.state.ready_models) or "-"),
        )
    return made
