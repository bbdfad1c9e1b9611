"""What an operator may ask of the cluster: load, unload, unpin, drain. Each becomes commands to workers, sent at once and awaited together.

The rules are the same in both planes; how a worker is reached is a `Reach`: by the streams that workers hold, or by their sidecars.

Keeps no state of its own. A command that fails does not stop the others; the error that is raised at the end names every worker that
failed, why, and which ones succeeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from roost.cluster.errors import CommandFailed, NoCapacity, RoostError, WorkerUnreachable
from roost.cluster.names import check_model_name, check_worker_name
from roost.cluster.view import ClusterView, WorkerEntry
from roost.cluster.worker_state import Liveness
from roost.placement.placer import Placer
from roost.placement.targets import LoadWish, load_targets
from roost.service.errors import status_of
from roost.service.logs import Logger
from roost.service.operating.commands import Action, CommandResult, Drain, LoadModel, UnloadModel, UnpinModel


class Knowledge(Protocol):
    """What a plane knows, as of now."""

    @property
    def view(self) -> ClusterView: ...

    @property
    def placer(self) -> Placer: ...


class Reach(Protocol):
    """How a plane reaches workers."""

    def __contains__(self, worker_id: object, /) -> bool:
        """Whether there is a way to that worker now."""

    async def command(self, worker_id: str, action: Action, timeout_s: float) -> CommandResult:
        """What the worker answers within `timeout_s`, whatever it says. Raises NoCapacity, WorkerUnreachable."""
        ...


class Counting(Protocol):
    """Counts what became of each command; the outcome is the error of one that was not done."""

    def commanded(self, command: str, outcome: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one worker did, and in how many seconds. `unfinished`: requests it still has after a drain, None where it did not say."""

    worker_id: str
    elapsed_s: float = 0.0
    is_unchanged: bool = False
    unfinished: int | None = None


Attempts = Mapping[str, Outcome | RoostError]


class Operations:
    """Every method takes `timeout_s`, the time a worker has for its answer, and raises what `_settled` raises."""

    def __init__(self, knowledge: Knowledge, reach: Reach, *, metrics: Counting, log: Logger) -> None:
        self._knowledge = knowledge
        self._reach = reach
        self._metrics = metrics
        self._log = log

    async def load(self, wish: LoadWish, timeout_s: float) -> list[Outcome]:
        """Returns when the model is ready on all of them. Raises also what `load_targets` raises."""
        targets = load_targets(self._knowledge.view, wish, self._knowledge.placer.reserved, self._reach.__contains__)
        done = await self._command(targets.to_load, LoadModel(wish.model, wish.is_pinned), timeout_s)
        return _ordered([*done, *(Outcome(worker_id, is_unchanged=True) for worker_id in targets.unchanged)])

    async def unload(self, model: str, worker_id: str, timeout_s: float, *, when_free: bool = False) -> list[Outcome]:
        """From `worker_id`, or from every live worker that has it. Raises also UnknownModel, UnknownWorker."""
        return await self._at_holders(UnloadModel(model, when_free), worker_id, timeout_s)

    async def unpin(self, model: str, worker_id: str, timeout_s: float) -> list[Outcome]:
        """On `worker_id`, or on every live worker that has it. Raises also UnknownModel, UnknownWorker."""
        return await self._at_holders(UnpinModel(model), worker_id, timeout_s)

    async def _at_holders(self, action: UnloadModel | UnpinModel, worker_id: str, timeout_s: float) -> list[Outcome]:
        model = check_model_name(action.model)
        view = self._knowledge.view
        view.check_known(model)
        if worker_id:
            holders = [view.entry(check_worker_name(worker_id, "worker_id"))]
        else:
            holders = [entry for entry in view.entries.values() if entry.liveness is Liveness.LIVE and model in entry.state.models]
        concerned = {entry.node_id for entry in holders if _concerns(entry, action)}
        done = await self._command(sorted(concerned), action, timeout_s)
        return _ordered([*done, *(Outcome(entry.node_id, is_unchanged=True) for entry in holders if entry.node_id not in concerned)])

    async def drain(self, worker_id: str, timeout_s: float, *, is_resume: bool, grace_s: float | None = None) -> int:
        """The requests that the worker still has to finish. What has not ended after `grace_s` is handed over to others, if there are any.

        Raises also UnknownWorker.
        """
        entry = self._knowledge.view.entry(check_worker_name(worker_id, "worker_id"))
        if grace_s is not None and not any(other.is_available for other in self._knowledge.view.entries.values() if other is not entry):
            self._log.warning("nobody_to_hand_over_to", worker_id=entry.node_id)
            grace_s = None
        [drained] = await self._command([entry.node_id], Drain(is_resume, grace_s), timeout_s)
        if drained.unfinished is not None:
            return drained.unfinished
        return _unfinished(self._knowledge.view.entries.get(worker_id, entry))

    async def _command(self, worker_ids: Iterable[str], action: Action, timeout_s: float) -> list[Outcome]:
        async with asyncio.TaskGroup() as tasks:
            running = {worker_id: tasks.create_task(self._attempt(worker_id, action, timeout_s)) for worker_id in worker_ids}
        return _settled({worker_id: task.result() for worker_id, task in running.items()})

    async def _attempt(self, worker_id: str, action: Action, timeout_s: float) -> Outcome | RoostError:
        try:
            outcome: Outcome | RoostError = await self._one(worker_id, action, timeout_s)
        except (CommandFailed, WorkerUnreachable, NoCapacity) as failure:
            outcome = failure
        self._metrics.commanded(action.kind, outcome)
        self._log_outcome(worker_id, action, outcome)
        return outcome

    async def _one(self, worker_id: str, action: Action, timeout_s: float) -> Outcome:
        result = await self._reach.command(worker_id, action, timeout_s)
        if result.code:
            raise CommandFailed(worker_id, result.code, result.reason, result.message)
        return Outcome(worker_id, result.elapsed_s, unfinished=result.unfinished)

    def _log_outcome(self, worker_id: str, action: Action, outcome: Outcome | RoostError) -> None:
        if isinstance(outcome, RoostError):
            self._log.warning("command_failed", worker_id=worker_id, command=action.kind, why=str(outcome))
        else:
            self._log.info("command_done", worker_id=worker_id, command=action.kind, elapsed_s=round(outcome.elapsed_s, 3))


def _settled(attempts: Attempts) -> list[Outcome]:
    """The outcomes if there was no failure. Raises the failure itself if it is the only attempt, else CommandFailed that names them all."""
    failures = {worker_id: outcome for worker_id, outcome in sorted(attempts.items()) if isinstance(outcome, RoostError)}
    done = [outcome for outcome in attempts.values() if isinstance(outcome, Outcome)]
    if not failures:
        return done
    first = next(iter(failures.values()))
    if len(attempts) == 1:
        raise first
    finished = f" (done on {', '.join(outcome.worker_id for outcome in _ordered(done))})" if done else ""
    named, told = _told(failures)
    raise CommandFailed(named, _code(first), _reason(first), told + finished)


def _told(failures: Mapping[str, RoostError]) -> tuple[str, str]:
    """The first workers that failed and why, then the others: each named once, those with the same reason together."""
    workers: dict[str, list[str]] = {}
    for worker_id, failure in failures.items():
        why = str(failure).removeprefix(f"{worker_id}: ").removeprefix(f"{worker_id} ")
        workers.setdefault(why, []).append(worker_id)
    (why, first), *others = workers.items()
    return ", ".join(first), "; ".join([why, *(f"{', '.join(names)}: {why}" for why, names in others)])


def _code(failure: RoostError) -> int:
    """The google.rpc.Code it travels as."""
    number: int = status_of(failure).value[0]
    return number


def _reason(failure: RoostError) -> str:
    return failure.worker_reason if isinstance(failure, CommandFailed) else failure.reason


def _concerns(entry: WorkerEntry, action: UnloadModel | UnpinModel) -> bool:
    """Whether there is anything to do. What is still loading may have been ordered pinned, which only its worker knows."""
    status = entry.state.models.get(action.model)
    return status is not None and (isinstance(action, UnloadModel) or status.is_pinned or not status.is_ready)


def _unfinished(entry: WorkerEntry) -> int:
    return entry.state.queue_depth + entry.state.busy_slots


def _ordered(outcomes: list[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda outcome: outcome.worker_id)
