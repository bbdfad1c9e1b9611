"""What a trial measured, the verdict on a row, and the page that says so."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from roost.client.chaos.core.rows import Row

MEDIAN_S: Final = 0.5  # recovery that is hardly noticed by who reads along
WORST_S: Final = 4.0  # 3 s of silence until a worker counts as lost, and one more to go on elsewhere


@dataclass(frozen=True, slots=True)
class Trial:
    """One row once. Tokens and requests are counts, times seconds; `failures` are the reasons of requests that failed."""

    requests: int
    tokens: int
    lost: int
    repeated: int
    wrong: int
    failures: tuple[str, ...]
    recovery_s: float
    longest_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """A row with its trials; `skipped` says why there are none, `broken` why some came to no end."""

    row: Row
    seed: int
    trials: tuple[Trial, ...] = ()
    skipped: str = ""
    broken: tuple[str, ...] = ()

    @property
    def misses(self) -> tuple[str, ...]:
        """Each target that was missed, in words. Empty: the row holds, or was skipped."""
        broken = (f"{len(self.broken)} trials came to no end ({', '.join(sorted(set(self.broken)))})",) if self.broken else ()
        if not self.trials:
            return broken
        bad = sum(trial.lost + trial.repeated + trial.wrong for trial in self.trials)
        failures = [reason for trial in self.trials for reason in trial.failures]
        asleep = sum(trial.tokens == 0 for trial in self.trials)
        checks = (
            (bad > 0, f"{bad} tokens lost, repeated or wrong"),
            (bool(failures), f"{len(failures)} requests failed ({', '.join(sorted(set(failures)))})"),
            (asleep > 0, f"{asleep} trials without a token"),
            (self.median_s > MEDIAN_S, f"median recovery above {MEDIAN_S:g} s"),
            (self.worst_s > WORST_S, f"worst recovery above {WORST_S:g} s"),
        )
        return (*broken, *(words for is_missed, words in checks if is_missed))

    @property
    def is_whole(self) -> bool:
        """No token and no request was lost, however long it took."""
        return (
            bool(self.trials)
            and not self.broken
            and not any(trial.lost or trial.repeated or trial.wrong or trial.failures for trial in self.trials)
        )

    @property
    def median_s(self) -> float:
        return statistics.median(trial.recovery_s for trial in self.trials)

    @property
    def worst_s(self) -> float:
        return max(trial.recovery_s for trial in self.trials)

    @property
    def verdict(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        return "; ".join(("missed: " if place == 0 else "") + miss for place, miss in enumerate(self.misses)) or "holds"


def command(result: Result, *, trials: int, duration_s: float) -> str:
    """What repeats the row."""
    return f"roost chaos --rows {result.row.name} --trials {trials} --seed {result.seed} --duration {duration_s:g}"


def cells(result: Result) -> tuple[str, ...]:
    """Row, mode, trials, requests, tokens, lost/repeated/wrong, failed, recovery median/worst, longest wait, verdict."""
    trials, row = result.trials, result.row
    if not trials:
        return (row.says, row.mode, "0", "", "", "", "", "", "", result.verdict)
    bad = "/".join(str(sum(getattr(trial, name) for trial in trials)) for name in ("lost", "repeated", "wrong"))
    return (
        row.says,
        row.mode,
        str(len(trials)),
        str(sum(trial.requests for trial in trials)),
        str(sum(trial.tokens for trial in trials)),
        bad,
        str(sum(len(trial.failures) for trial in trials)),
        f"{result.median_s:.2f}/{result.worst_s:.2f}",
        f"{max(trial.longest_s for trial in trials):.2f}",
        result.verdict,
    )


HEADINGS: Final = (
    "Fault",
    "Mode",
    "Trials",
    "Requests",
    "Tokens",
    "Lost/repeated/wrong",
    "Failed",
    "Recovery (s)",
    "Longest wait (s)",
    "Verdict",
)


def page(results: Sequence[Result], *, trials: int, duration_s: float) -> str:
    """The markdown page: what is meant, one line a row, and the command that repeats each."""
    lines = ["| " + " | ".join((*HEADINGS, "Command")) + " |", "|" + " --- |" * (len(HEADINGS) + 1)]
    lines += [f"| {' | '.join(cells(result))} | `{command(result, trials=trials, duration_s=duration_s)}` |" for result in results]
    return PAGE.format(table="\n".join(lines), median=MEDIAN_S, worst=WORST_S)


PAGE: Final = """# Reliability

Made by `roost chaos --page docs/reliability.md`: do not edit. Each row is a real cluster of processes on one machine, with simulated
engines and a steady load of callers that know every token they should get. A row's faults are drawn from its seed.

- **Lost, repeated, wrong**: tokens, each checked by index and text against an undisturbed run.
- **Failed**: requests that ended with an error; other workers were there, so another try could have saved each.
- **Recovery** (median and worst of the trials): the longest time after the first fault in which requests were open and none of them got
  a token.
- **Longest wait**: the longest that any one request waited for its next token, the first included.

Targets: no token lost, repeated or wrong, no request failed, recovery at most {median:g} s in the median and {worst:g} s at worst.

{table}
"""
