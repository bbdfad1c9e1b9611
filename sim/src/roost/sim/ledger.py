"""Every request of a run in columns: a million of them take some 80 MB, and asking for one column costs nothing.

State: one row a request, in order of arrival, filled when it ends. Invariant: a row is closed at most once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from roost.placement.decision import Action
from roost.sim.records import RESULTS, RequestRecord

ACTIONS = ("", *(action.name for action in Action))
OPEN = 255
NOWHERE = 65_535
_ACTION_CODES = {action: ACTIONS.index(action.name) for action in Action}
RESULT_CODES = {result: code for code, result in enumerate(RESULTS)}


class Ledger:
    """Mutable until the run is over. `models` and `workers` are the names behind the numbers."""

    def __init__(self, models: Sequence[str], workers: Sequence[str]) -> None:
        self.models = tuple(models)
        self.workers = tuple(workers)
        self.arrival_s = array("d")
        self.wait_s = array("d")
        self.ttft_s = array("d")
        self.sojourn_s = array("d")
        self.queue_s = array("d")
        self.load_s = array("d")
        self.model = array("H")
        self.worker = array("H")
        self.action = array("B")
        self.result = array("B")
        self.attempts = array("B")
        self.closed = 0

    def open(self, arrival_s: float, model: int) -> int:
        """A request has arrived: its number."""
        number = len(self.arrival_s)
        self.arrival_s.append(arrival_s)
        self.model.append(model)
        for column in (self.wait_s, self.ttft_s, self.sojourn_s, self.queue_s, self.load_s):
            column.append(0.0)
        self.worker.append(NOWHERE)
        self.action.append(0)
        self.result.append(OPEN)
        self.attempts.append(0)
        return number

    def sent(self, number: int, worker: int, action: Action) -> None:
        """A decision sends it to a worker; the last one counts."""
        self.worker[number] = worker
        self.action[number] = _ACTION_CODES[action]

    def close(self, number: int, result: str, sojourn_s: float, attempts: int) -> None:
        """It has ended, one way or another."""
        self.result[number] = RESULT_CODES[result]
        self.sojourn_s[number] = sojourn_s
        self.attempts[number] = min(attempts, 255)
        self.closed += 1

    def served(self) -> Iterator[int]:
        """The numbers of those that were served."""
        return (number for number, code in enumerate(self.result) if code <= 2)

    def records(self) -> Iterator[RequestRecord]:
        """Every request that has ended, in order of arrival."""
        for number, code in enumerate(self.result):
            if code == OPEN:
                continue
            worker = self.worker[number]
            yield RequestRecord(
                request_id=number,
                arrival_s=self.arrival_s[number],
                model=self.models[self.model[number]],
                worker="" if worker == NOWHERE else self.workers[worker],
                action=ACTIONS[self.action[number]],
                result=RESULTS[code],
                wait_s=self.wait_s[number],
                ttft_s=self.ttft_s[number],
                sojourn_s=self.sojourn_s[number],
                attempts=self.attempts[number],
                queue_s=self.queue_s[number],
                load_s=self.load_s[number],
            )

    def __len__(self) -> int:
        return len(self.arrival_s)

    def __repr__(self) -> str:
        return f"<Ledger {len(self)} requests, {len(self) - self.closed} open>"
