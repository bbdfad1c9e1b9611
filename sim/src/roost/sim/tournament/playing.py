"""One policy in one regime: what became of the requests, as numbers that can be kept."""

from __future__ import annotations

import gc
from dataclasses import asdict, dataclass
from statistics import fmean

from roost.sim.run import Run
from roost.sim.summary import jains_index, quantile
from roost.sim.tournament.regimes import Regime


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds to the first token of those that were served. `jain` is the fairness of the models' means."""

    served: int
    failed: int
    mean: float
    p50: float
    p95: float
    p99: float
    worst: float
    loads: int
    jain: float


@dataclass(frozen=True, slots=True)
class Game:
    """What is played: the same four are the same game."""

    regime: Regime
    policy: str
    seed: int
    plane: str = "central"

    @property
    def key(self) -> str:
        """To find a kept outcome by."""
        return repr((asdict(self.regime), self.policy, self.seed, self.plane))


def play(game: Game) -> Outcome:
    """Plays it to its end."""
    run = game.regime.simulation(game.policy, game.seed, game.plane).run(duration_s=game.regime.duration_s)
    outcome = outcome_of(run)
    del run
    gc.collect()
    return outcome


def outcome_of(run: Run) -> Outcome:
    """Of a run; one without any served request waited for ever."""
    ledger, waits_s = run.ledger, sorted(run.ttfts)
    if not waits_s:
        never = float("inf")
        return Outcome(0, len(ledger), never, never, never, never, never, int(run.totals["loads"]), 0.0)
    by_model: dict[int, list[float]] = {}
    for number in ledger.served():
        by_model.setdefault(ledger.model[number], []).append(ledger.ttft_s[number])
    return Outcome(
        served=len(waits_s),
        failed=len(ledger) - len(waits_s),
        mean=fmean(waits_s),
        p50=quantile(waits_s, 0.5),
        p95=quantile(waits_s, 0.95),
        p99=quantile(waits_s, 0.99),
        worst=waits_s[-1],
        loads=int(run.totals["loads"]),
        jain=jains_index([fmean(each) for each in by_model.values()]),
    )
