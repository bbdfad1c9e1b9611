"""The default policy against every baseline over drawn regimes: `python bench/bench_tournament.py --regimes 200 --seed 1 --jobs 2`.

Each regime is a cluster and a load (`roost.sim.tournament.regimes`), played in simulated time by every policy with the same requests. Told
are the regimes in which the best baseline, whichever that is in a measure, beats us by more than a tenth in the mean, p50, p95 or p99 of
the time to the first token, and how often it is the other way round. A baseline that failed more requests than we did beats nobody.

`--keep FILE` writes every outcome down and plays nothing again that stands there: baselines do not change when our own policy does, so
`--label` names what ours was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from roost.placement.registry import DEFAULT_POLICY
from roost.sim.tournament.judging import Comparison, compared, failed_more, mean_of, tallied
from roost.sim.tournament.playing import Game, Outcome, play
from roost.sim.tournament.regimes import Regime, drawn_regimes

BASELINES = ("weighted-score", "affinity", "least-loaded", "power-of-two", "consistent-hash")


class Kept:
    """Outcomes by what was played, in memory and, if there is a path, in a file to which each is added."""

    def __init__(self, path: Path | None, label: str) -> None:
        self._path = path
        self._label = label
        self._outcomes: dict[str, Outcome] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                kept = json.loads(line)
                self._outcomes[kept["key"]] = Outcome(**kept["outcome"])

    def get(self, game: Game) -> Outcome | None:
        return self._outcomes.get(self._key(game))

    def add(self, game: Game, outcome: Outcome) -> None:
        self._outcomes[self._key(game)] = outcome
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({"key": self._key(game), "outcome": asdict(outcome)}) + "\n")

    def _key(self, game: Game) -> str:
        return game.key if game.policy in BASELINES else f"{self._label} {game.key}"


def played(games: list[Game], kept: Kept, jobs: int) -> Iterator[tuple[Game, Outcome]]:
    """Each game and its outcome, as they end."""
    open_games: list[Game] = []
    for game in games:
        outcome = kept.get(game)
        if outcome is None:
            open_games.append(game)
        else:
            yield game, outcome
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(play, game): game for game in open_games}
        for done in as_completed(running):
            game, outcome = running[done], done.result()
            kept.add(game, outcome)
            yield game, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description="The default policy against every baseline over drawn regimes.")
    parser.add_argument("--regimes", type=int, default=60, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=1, help="by which they are drawn")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, with other requests, whose means are compared")
    parser.add_argument("--planes", default="central", help="central, gossip, or both with a comma")
    parser.add_argument("--policies", default=",".join(BASELINES), help="whom it is compared with, with commas")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", type=Path, default=None, help="a file of outcomes")
    parser.add_argument("--label", default="", help="what our own policy is called in that file")
    parser.add_argument("--json", action="store_true", help="one JSON object for each regime")
    asked = parser.parse_args()
    regimes = drawn_regimes(asked.regimes, asked.seed)
    kept = Kept(asked.keep, asked.label)
    for plane in asked.planes.split(","):
        tell(plane, regimes, kept, asked)


def tell(plane: str, regimes: list[Regime], kept: Kept, asked: argparse.Namespace) -> None:
    """Plays them all in one plane, and prints what came of it."""
    policies = (DEFAULT_POLICY, *asked.policies.split(","))
    seeds = range(1, asked.repeats + 1)
    games = [Game(regime, policy, seed, plane) for regime in dict.fromkeys(regimes) for seed in seeds for policy in policies]
    found = dict(played(games, kept, asked.jobs))
    lost = Table(title=f"{plane}: beaten by more than a tenth")
    for column in ("regime", "where", "loads", "of the best"):
        lost.add_column(column, justify="left")
    comparisons: list[Comparison] = []
    failures: list[str] = []
    for regime in regimes:
        outcomes = {policy: mean_of([found[Game(regime, policy, seed, plane)] for seed in seeds]) for policy in policies}
        own = compared(outcomes, DEFAULT_POLICY)
        comparisons += own
        if asked.json:
            told = {policy: asdict(outcome) for policy, outcome in outcomes.items()}
            print(json.dumps({"plane": plane, "regime": asdict(regime), "outcomes": told}), flush=True)
        losses = [comparison for comparison in own if comparison.is_loss]
        if losses:
            worst = max(losses, key=lambda comparison: comparison.ratio)
            loads = outcomes[DEFAULT_POLICY].loads, outcomes[worst.best_policy].loads
            lost.add_row(regime.name, "\n".join(map(str, losses)), str(loads[0]), str(loads[1]))
        if fewest := failed_more(outcomes, DEFAULT_POLICY):
            failures.append(f"{regime.name}: {outcomes[DEFAULT_POLICY].failed} failed, with {fewest} {outcomes[fewest].failed}")
    if asked.json:
        return
    Console(width=180).print(lost)
    for failure in failures:
        print(f"failed more: {failure}")
    for tally in tallied(comparisons, len(regimes)):
        print(
            f"{plane} {tally.measure}: beaten by more than a tenth in {tally.lost} of {tally.regimes} regimes ({tally.lost_share:.1%}), "
            f"at worst × {tally.worst_ratio:.2f}; beats all by more than a tenth in {tally.won}"
        )


if __name__ == "__main__":
    main()
