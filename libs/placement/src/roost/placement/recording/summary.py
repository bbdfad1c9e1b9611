"""What a comparison comes to: each policy's decisions and expected waits, and where they go apart, in all and by model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from roost.placement.decision import Action, Decision
from roost.placement.recording.comparing import Both, Fate
from roost.placement.recording.events import Refusal


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """Waits are in seconds, of the requests that were given a worker; None where none was."""

    served: int
    cold_starts: int
    refused: int
    gave_up: int
    still_waiting: int
    median_s: float | None
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class Compared:
    """`elsewhere` requests of `asked` got another worker, or a worker from one policy alone."""

    asked: int
    elsewhere: int
    recorded: PolicySummary
    other: PolicySummary


def summary(asked: Sequence[Both]) -> Compared:
    """Of all requests."""
    elsewhere = sum(_worker(each.recorded) != _worker(each.other) for each in asked)
    return Compared(len(asked), elsewhere, _summary([each.recorded for each in asked]), _summary([each.other for each in asked]))


def by_model(asked: Iterable[Both]) -> dict[str, Compared]:
    """Of each model's requests; those first of which most go elsewhere."""
    found: dict[str, list[Both]] = {}
    for each in asked:
        found.setdefault(each.request.model, []).append(each)
    compared = {model: summary(some) for model, some in found.items()}
    return dict(sorted(compared.items(), key=lambda item: (-item[1].elsewhere, -item[1].asked, item[0])))


def _worker(fate: Fate) -> str:
    return fate.answer.worker_id if isinstance(fate.answer, Decision) else ""


def _summary(fates: Sequence[Fate]) -> PolicySummary:
    actions = Counter(fate.answer.action for fate in fates if isinstance(fate.answer, Decision))
    waits = sorted(wait_s for fate in fates if (wait_s := fate.expected_wait_s) is not None)
    unanswered = [fate for fate in fates if fate.answer is None]
    gave_up = sum(fate.gave_up for fate in unanswered)
    return PolicySummary(
        served=actions[Action.SERVE],
        cold_starts=len(waits) - actions[Action.SERVE],
        refused=sum(isinstance(fate.answer, Refusal) for fate in fates),
        gave_up=gave_up,
        still_waiting=len(unanswered) - gave_up,
        median_s=_quantile(waits, 0.5),
        p95_s=_quantile(waits, 0.95),
    )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
