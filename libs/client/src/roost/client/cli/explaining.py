"""`roost explain`: why a request went where it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from roost.client.cli.connection import Connection, calls_cluster
from roost.client.cli.json_views import decision_json
from roost.client.cli.options import OPERATE, AsJson, Timeout, examples
from roost.client.cli.replaying import warnings_of
from roost.client.cli.running import Json, print_json, run, say
from roost.client.cli.tables import console_for_stdout, passed_over_text, size_text, table
from roost.client.explaining import ConsideredWorker, ExplainedDecision
from roost.client.recordings import explain_from
from roost.cluster.worker_state import CacheResult

OUTCOMES = {
    CacheResult.HIT: "it found the model ready there",
    CacheResult.COLD_START: "it made the worker load the model",
    CacheResult.JOIN: "it waited there for a load that was under way",
    CacheResult.REFUSED: "the worker turned it away",
}


def register(app: typer.Typer) -> None:
    app.command(
        rich_help_panel=OPERATE,
        epilog=examples(
            "roost generate gemma-3-270m Hello --request-id mine",
            "roost explain mine",
            "roost explain mine --json",
            "roost explain mine --file decisions.jsonl",
        ),
    )(explain)


@calls_cluster
def explain(
    request_id: Annotated[
        str,
        typer.Argument(metavar="REQUEST_ID", help="The name the request was given, or got (generate --json tells it).", show_default=False),
    ],
    *,
    connection: Connection,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Explain from a recording (--record) instead of asking.", show_default=False),
    ] = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Tell why a request went where it did: what was considered, at what cost, and what became of it.

    Deciders remember their last decisions (1,000 if not told otherwise: --remember). Each sidecar remembers its own; all that are named
    are asked. Where one records its decisions, its file tells of more, and when the decider has gone, too.
    """

    async def main() -> None:
        decisions = await _asked(connection, request_id, timeout) if file is None else _replayed(file, request_id)
        if as_json:
            print_json({"request_id": request_id, "decisions": [explained_json(decision) for decision in decisions]})
            return
        console = console_for_stdout()
        for number, decision in enumerate(decisions, 1):
            console.print(story(decision, number, len(decisions)), soft_wrap=True)
            if decision.considered:
                console.print(considered_table(decision))

    run(main, as_json=as_json)


async def _asked(connection: Connection, request_id: str, timeout_s: float) -> Sequence[ExplainedDecision]:
    async with connection.client(timeout_s=timeout_s) as client:
        return await client.explain(request_id)


def _replayed(file: Path, request_id: str) -> Sequence[ExplainedDecision]:
    explained, replayed = explain_from(file, request_id)
    for each in replayed:
        for warning in warnings_of(each):
            say(f"roost: {warning}")
    return explained


def story(explained: ExplainedDecision, number: int, count: int) -> str:
    """One decision in words."""
    at = datetime.fromtimestamp(explained.decided_at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    asked = f"priority {explained.priority}"
    if explained.deadline_s:
        asked += f", deadline {explained.deadline_s:g} s"
    if explained.excluded:
        asked += f", without {', '.join(explained.excluded)}"
    head = f"Decision {number} of {count} on {explained.request_id} at {at} UTC: {explained.model}, {asked}."
    decision = explained.decision
    head += "".join(f"\nPassed over: {passed_over_text(each)}." for each in explained.passed_over)
    if decision is None:
        return f"{head}\nRefused: {explained.refusal} [{explained.refusal_reason}]"
    chosen = f"{decision.worker_id} ({decision.action.name}), expected to start in {decision.estimated_wait_time:.3f} s: {decision.reason}."
    by = f"Decided by policy {decision.policy} in the {decision.plane.value} plane, from news {decision.view_age_s:.1f} s old."
    return f"{head}\n{chosen}\n{by} {_outcome(explained)}"


def _outcome(explained: ExplainedDecision) -> str:
    if explained.outcome is None:
        return "The worker has not told what became of it: the request has not reached it (yet), or nobody sent it there."
    return f"{explained.settled_after_s:.2f} s later the worker told that {OUTCOMES[explained.outcome]}."


def considered_table(explained: ExplainedDecision) -> Table:
    """The workers that were considered, the chosen one first."""
    numbers = ("QUEUE", "SLOTS", "GPU", "RESERVED", "AGE", "WAIT FOR SLOT", "LOAD", "MEMORY WAIT", "EVICTION", "CROWDING", "TOTAL")
    columns = ("WORKER", "MODEL", "QUEUE", "SLOTS", "GPU", "RESERVED", "MEMORY", "AGE")
    has_costs = any(worker.cost is not None for worker in explained.considered)
    costs = ("WAIT FOR SLOT", "LOAD", "MEMORY WAIT", "EVICTION", "CROWDING", "TOTAL") if has_costs else ()
    shown = table(*columns, *costs, right=numbers)
    for position, worker in enumerate(explained.considered):
        shown.add_row(*_state_cells(worker, is_chosen=position == 0), *(_cost_cells(worker) if has_costs else ()))
    return shown


def _state_cells(worker: ConsideredWorker, *, is_chosen: bool) -> list[str]:
    used, capacity = worker.memory_used_bytes, worker.memory_capacity_bytes
    return [
        f"{worker.worker_id} (chosen)" if is_chosen else worker.worker_id,
        worker.phase.value if worker.phase is not None else "absent",
        str(worker.queue_depth),
        f"{worker.busy_slots}/{worker.slots}",
        f"{worker.gpu_utilization:.0%}",
        f"{worker.reserved} ({worker.reserved_for_model} of it)" if worker.reserved else "0",
        f"{size_text(used)} / {size_text(capacity)}",
        f"{worker.view_age_s:.1f} s",
    ]


def _cost_cells(worker: ConsideredWorker) -> list[str]:
    cost = worker.cost
    if cost is None:
        return ["-"] * 6
    return [f"{seconds:.3f} s" for seconds in (cost.queue_s, cost.load_s, cost.memory_s, cost.eviction_s, cost.crowding_s, cost.total_s)]


def explained_json(explained: ExplainedDecision) -> dict[str, Json]:
    """Every field; the decision as `roost schedule --json` prints it."""
    return {
        "decided_at": explained.decided_at,
        "model": explained.model,
        "priority": explained.priority,
        "deadline_s": explained.deadline_s,
        "excluded_workers": list(explained.excluded),
        "decision": None if explained.decision is None else decision_json(explained.decision),
        "refusal": None if explained.decision is not None else {"reason": explained.refusal_reason, "message": explained.refusal},
        "considered": [_considered_json(worker) for worker in explained.considered],
        "outcome": None if explained.outcome is None else explained.outcome.value,
        "settled_after_s": explained.settled_after_s,
        "passed_over": [asdict(each) for each in explained.passed_over],
    }


def _considered_json(worker: ConsideredWorker) -> dict[str, Json]:
    plain: dict[str, Json] = {**asdict(worker), "phase": "absent" if worker.phase is None else worker.phase.value}
    plain["cost"] = None if worker.cost is None else {**worker.cost._asdict(), "total_s": worker.cost.total_s}
    return plain
