"""Who is beaten, in which measure, by whom, and by how much. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean

from roost.sim.tournament.playing import Outcome

MEASURES = ("mean", "p50", "p95", "p99")
MARGIN = 1.1  # less than a tenth more is as good
NOTICEABLE_S = 0.005  # and so is less than that much more: a tenth of the time between two reports


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of ours beside the best of the others. `ratio` is ours / theirs, without what nobody would notice."""

    measure: str
    ours_s: float
    best_s: float
    best_policy: str

    @property
    def ratio(self) -> float:
        return max(1e-3, self.ours_s - NOTICEABLE_S) / max(1e-3, self.best_s)

    @property
    def is_loss(self) -> bool:
        return self.ratio > MARGIN

    @property
    def is_win(self) -> bool:
        """By more than a tenth, over all."""
        return self.best_s > MARGIN * self.ours_s + NOTICEABLE_S

    def __str__(self) -> str:
        return f"{self.measure} {self.ours_s:.3f} s, {self.best_policy} {self.best_s:.3f} (× {self.ratio:.2f})"


def compared(outcomes: Mapping[str, Outcome], ours: str) -> list[Comparison]:
    """Each measure with the best of those that failed no more requests than we did; nothing where all others failed more."""
    own = outcomes[ours]
    others = {policy: outcome for policy, outcome in outcomes.items() if policy != ours and outcome.failed <= own.failed}
    found: list[Comparison] = []
    for measure in MEASURES if others else ():
        best = min(others, key=lambda policy: float(getattr(others[policy], measure)))
        found.append(Comparison(measure, getattr(own, measure), getattr(others[best], measure), best))
    return found


def failed_more(outcomes: Mapping[str, Outcome], ours: str) -> str:
    """The policy that failed the fewest requests, where we failed more than it by a hundredth of all; else ""."""
    own = outcomes[ours]
    fewest = min((policy for policy in outcomes if policy != ours), key=lambda policy: outcomes[policy].failed, default=ours)
    return fewest if own.failed - outcomes[fewest].failed > 0.01 * (own.served + own.failed) else ""


def mean_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Of several seeds: means, but all failures and the worst of all."""
    means = {each.name: fmean(float(getattr(outcome, each.name)) for outcome in outcomes) for each in fields(Outcome)}
    return replace(
        outcomes[0],
        **{name: means[name] for name in (*MEASURES, "jain")},
        served=sum(outcome.served for outcome in outcomes),
        failed=sum(outcome.failed for outcome in outcomes),
        worst=max(outcome.worst for outcome in outcomes),
        loads=round(means["loads"]),
    )


@dataclass(frozen=True, slots=True)
class Tally:
    """One measure over all regimes: how many were lost and won by more than a tenth, of how many, and the worst ratio."""

    measure: str
    regimes: int
    lost: int
    won: int
    worst_ratio: float

    @property
    def lost_share(self) -> float:
        return self.lost / self.regimes if self.regimes else 0.0


def tallied(comparisons: Iterable[Comparison], regimes: int) -> list[Tally]:
    """By measure, in the order of MEASURES."""
    by_measure: dict[str, list[Comparison]] = {measure: [] for measure in MEASURES}
    for comparison in comparisons:
        by_measure[comparison.measure].append(comparison)
    return [
        Tally(
            measure,
            regimes,
            sum(each.is_loss for each in found),
            sum(each.is_win for each in found),
            max((each.ratio for each in found), default=0.0),
        )
        for measure, found in by_measure.items()
    ]
