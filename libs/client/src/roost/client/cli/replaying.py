"""`roost replay`: recorded decisions again, by the policy that made them or by another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from roost.client.cli.exits import ExitCode
from roost.client.cli.options import OPERATE, AsJson, examples
from roost.client.cli.running import Json, print_json, run, say
from roost.client.cli.tables import console_for_stdout, table
from roost.client.recordings import ComparedFile, ReplayedFile, compare_file, files_of, replay_file, terms_of
from roost.placement.decision import Decision
from roost.placement.recording.events import Answer
from roost.placement.recording.replay import Difference, Verified
from roost.placement.recording.summary import Compared, PolicySummary, by_model, summary
from roost.placement.registry import policy_names

MODELS_SHOWN = 20  # in the table; --json has all
OPEN_LOOP = (
    "Open loop: the workers' reports are those of the cluster that followed the recorded decisions. This tells how both policies judge the "
    "same situations, not what the cluster would have come to under the other one; roost simulate tells that."
)


def register(app: typer.Typer) -> None:
    app.command(
        rich_help_panel=OPERATE,
        epilog=examples("roost replay decisions.jsonl", "roost replay decisions.jsonl --policy least-loaded --json"),
    )(replay)


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What --record has written; FILE.1 is read first if it is there.", show_default=False)
    ],
    policy: Annotated[
        str, typer.Option("--policy", metavar="NAME", help=f"Compare with another policy: {', '.join(policy_names())}.", show_default=False)
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make recorded decisions again, and tell whether they come out the same; or what another policy would have decided.

    Ends with 1 if a decision comes out otherwise with the policy that made it: then this is another version of that policy, or a bug.
    """

    async def main() -> ExitCode:
        paths = files_of(file)
        if not policy or all(terms_of(path).policy == policy for path in paths):
            return _verify([replay_file(path) for path in paths], as_json=as_json)
        return _compare([compare_file(path, policy) for path in paths], policy, as_json=as_json)

    run(main, as_json=as_json)


# --- by the same policy -------------------------------------------------------------------------------


def _verify(files: Sequence[ReplayedFile], *, as_json: bool) -> ExitCode:
    total = sum((each.verified for each in files), Verified())
    if as_json:
        print_json(_verified_json(files, total))
    else:
        for each in files:
            verified, terms, plane = each.verified, each.terms, each.origin.plane
            print(f"{each.path}: {verified.decisions} decisions by {terms.policy} in the {plane} plane ({terms.decider})")
            if each.note:
                say(f"roost: {each.path}: {each.note}")
        print(f"{total.identical} of {total.decisions} decisions identical")
        if total.difference is not None:
            print(difference_text(total.difference))
    return ExitCode.OK if total.difference is None else ExitCode.FAILED


def difference_text(difference: Difference) -> str:
    """The first decision that came out otherwise, in three lines."""
    of = f" on {difference.request_id}" if difference.request_id else ""
    return f"first difference at decision {difference.number}{of}:\n" + "\n".join(
        f"  {who:9}{_answer_text(answer)}" for who, answer in (("recorded", difference.recorded), ("replayed", difference.replayed))
    )


def _answer_text(answer: Answer | None) -> str:
    if answer is None:
        return "to wait"
    if isinstance(answer, Decision):
        return f"{answer.worker_id} {answer.action.name} in {answer.estimated_wait_s!r} s: {answer.reason}"
    return f"refused: {answer.message} [{answer.reason}]"


def warnings_of(replayed: ReplayedFile) -> Iterator[str]:
    """What whoever uses a replay should know of it."""
    if replayed.note:
        yield f"{replayed.path}: {replayed.note}"
    if (difference := replayed.verified.difference) is not None:
        yield f"{replayed.path}: this version decides otherwise from decision {difference.number} on, and tells nothing of what follows"


def _verified_json(files: Sequence[ReplayedFile], total: Verified) -> dict[str, Json]:
    difference = total.difference
    return {
        "decisions": total.decisions,
        "identical": total.identical,
        "difference": None
        if difference is None
        else {
            "number": difference.number,
            "request_id": difference.request_id,
            "recorded": _answer_json(difference.recorded),
            "replayed": _answer_json(difference.replayed),
        },
        "files": [{**_file_json(each), "decisions": each.verified.decisions, "identical": each.verified.identical} for each in files],
    }


def _answer_json(answer: Answer | None) -> Json:
    if answer is None:
        return None
    fields: dict[str, Json] = answer._asdict()
    return {**fields, "action": answer.action.name} if isinstance(answer, Decision) else fields


def _file_json(each: ReplayedFile | ComparedFile) -> dict[str, Json]:
    terms = each.terms
    return {"file": str(each.path), "policy": terms.policy, "plane": each.origin.plane, "decider": terms.decider, "note": each.note}


# --- by another ---------------------------------------------------------------------------------------


def _compare(files: Sequence[ComparedFile], policy: str, *, as_json: bool) -> ExitCode:
    asked = [asked for each in files for asked in each.asked]
    total, models = summary(asked), by_model(asked)
    if as_json:
        print_json(
            {
                "policy": policy,
                "is_open_loop": True,
                **_compared_json(total),
                "models": [{"model": model, **_compared_json(compared)} for model, compared in models.items()],
                "files": [{**_file_json(each), "asked": len(each.asked)} for each in files],
            }
        )
        return ExitCode.OK
    for each in files:
        if each.note:
            say(f"roost: {each.path}: {each.note}")
    recorded = ", ".join(dict.fromkeys(each.terms.policy for each in files))
    console = console_for_stdout()
    share = total.elsewhere / total.asked if total.asked else 0.0
    print(f"{total.elsewhere} of {total.asked} requests ({share:.1%}) go elsewhere with {policy} than with {recorded}")
    console.print(policies_table({f"{recorded} (recorded)": total.recorded, policy: total.other}))
    console.print(models_table(dict(list(models.items())[:MODELS_SHOWN]), recorded, policy))
    if len(models) > MODELS_SHOWN:
        print(f"and {len(models) - MODELS_SHOWN} models more, of which fewer requests go elsewhere; --json lists them")
    print(OPEN_LOOP)
    return ExitCode.OK


def policies_table(policies: dict[str, PolicySummary]) -> Table:
    """One row a policy."""
    numbers = ("SERVE", "COLD START", "REFUSED", "GAVE UP", "WAITING", "EXPECTED WAIT", "P95")
    shown = table("POLICY", *numbers, right=numbers)
    for name, each in policies.items():
        counts = (each.served, each.cold_starts, each.refused, each.gave_up, each.still_waiting)
        shown.add_row(name, *map(str, counts), _seconds(each.median_s), _seconds(each.p95_s))
    return shown


def models_table(models: dict[str, Compared], recorded: str, other: str) -> Table:
    """One row a model: what each policy made of its requests, the recorded one first."""
    numbers = ("REQUESTS", "ELSEWHERE", "COLD STARTS", "EXPECTED WAIT", "P95")
    shown = table("MODEL", *numbers, right=numbers)
    shown.caption = f"{recorded} → {other}"
    for model, each in models.items():
        before, after = each.recorded, each.other
        shown.add_row(
            model,
            str(each.asked),
            str(each.elsewhere),
            f"{before.cold_starts} → {after.cold_starts}",
            f"{_seconds(before.median_s)} → {_seconds(after.median_s)}",
            f"{_seconds(before.p95_s)} → {_seconds(after.p95_s)}",
        )
    return shown


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


def _compared_json(compared: Compared) -> dict[str, Json]:
    return {
        "asked": compared.asked,
        "elsewhere": compared.elsewhere,
        "recorded": asdict(compared.recorded),
        "replayed": asdict(compared.other),
    }
