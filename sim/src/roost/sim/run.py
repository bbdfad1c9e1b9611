"""A run that is over: its columns for those who count, its record for those who keep it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roost.sim.ledger import Ledger
from roost.sim.records import HIT, RunRecord, WorkerSample


@dataclass(frozen=True, slots=True)
class Run:
    """`waits`, `sojourns`, `ttfts` (seconds) and `hits` are of the served requests, in order of arrival."""

    plane: str
    policy: str
    seed: int
    duration_s: float
    ledger: Ledger
    samples: tuple[WorkerSample, ...]
    events: tuple[tuple[float, str], ...]
    totals: Mapping[str, float]

    @property
    def waits(self) -> Sequence[float]:
        """From arrival to the start of service."""
        return self._served(self.ledger.wait_s)

    @property
    def sojourns(self) -> Sequence[float]:
        """From arrival to the end."""
        return self._served(self.ledger.sojourn_s)

    @property
    def ttfts(self) -> Sequence[float]:
        """From arrival to the first token."""
        return self._served(self.ledger.ttft_s)

    @property
    def hits(self) -> Sequence[bool]:
        """Whether the model was ready when the request reached its worker."""
        return [code == 0 for code in self.ledger.result if code <= 2]

    @property
    def hit_rate(self) -> float:
        """Hits among the served; NaN of none."""
        hits = self.hits
        return sum(hits) / len(hits) if hits else float("nan")

    @property
    def workers(self) -> Sequence[int]:
        """The number of the worker that served each, from 0."""
        worker = self.ledger.worker
        return [worker[number] for number in self.ledger.served()]

    def _served(self, column: Sequence[float]) -> Sequence[float]:
        if self.ledger.closed == len(self.ledger) == sum(code <= 2 for code in self.ledger.result):
            return column
        return [column[number] for number in self.ledger.served()]

    def record(self) -> RunRecord:
        """Everything, as values."""
        return RunRecord(
            self.plane,
            self.policy,
            self.seed,
            self.duration_s,
            self.ledger.workers,
            tuple(self.ledger.records()),
            self.samples,
            self.events,
            self.totals,
        )

    def __repr__(self) -> str:
        return f"<Run {self.plane} {self.policy} seed {self.seed}: {len(self.ledger)} requests, {HIT} rate {self.hit_rate:.3f}>"
