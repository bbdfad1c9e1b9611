"""Plays histories of the worker's core: one line a fact, one line an effect.

```
worker memory=100 slots=1 queue=2 eviction=lru a=40 b=40x2     a new core; models with their size in MB and how many of their requests
                                                               the catalogue lets run at once (2 unless it says)
TIME arrive NAME MODEL [priority=P] [waited=S] [late] [decision=D]
TIME leave NAME | TIME done NAME                               given up, or completed
TIME preload NAME MODEL [pin] | TIME unload MODEL | drain | resume | turn-away D
TIME loaded MODEL [parallel=N] | TIME failed MODEL | TIME lost MODEL | TIME closed MODEL     of the stay that was told of last
TIME report | told                                             what it says of itself; what deciders have still to be told
```
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.errors import ModelLoadFailed, RoostError
from roost.cluster.worker_state import ModelStatus
from roost.worker.core.effects import Close, Effect, Grant, Ready, Refuse, Say, StartLoad
from roost.worker.core.jobs import Holder
from roost.worker.core.reports import Reports
from roost.worker.core.residency import Residency
from roost.worker.core.worker_core import Capacity, WorkerCore

MB = 1_000_000
MB_PER_S = 40.0  # at which a load is expected to run before one was measured


@dataclass(frozen=True)
class Request:
    """A request as the core sees it."""

    model: str
    priority: int = 0
    decision_id: str = ""
    waited_for_load: bool = False


class CorePlayer:
    """State: the core, who holds what by the history's names, and each model's last stay."""

    def __init__(self) -> None:
        self._core = WorkerCore("worker-1", Catalogue(), Capacity(MB, 1, 1), unmeasured_load_s=_load_s)
        self._reports = Reports(self._core, epoch=1)
        self._holders: dict[str, Holder] = {}
        self._names: dict[Holder, str] = {}
        self._stays: dict[str, Residency] = {}

    def play(self, line: str) -> list[str]:
        """What came of one fact."""
        words = line.split()
        if words[0] == "worker":
            return self._begin(words[1:])
        now = float(words.pop(0)) if words[0][0].isdigit() else 0.0
        fact, arguments = words[0], [word for word in words[1:] if "=" not in word]
        given = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        try:
            said = list(self._tell(fact, arguments, given, now))
        except RoostError as error:
            said = [f"{type(error).__name__}: {error}"]
        return [*said, *map(self._show, self._core.effects())]

    def _begin(self, words: list[str]) -> list[str]:
        given = dict(word.split("=", 1) for word in words)
        capacity = Capacity(
            int(given.pop("memory")) * MB, int(given.pop("slots")), int(given.pop("queue")), eviction=given.pop("eviction", "lru")
        )
        self.__init__()  # type: ignore[misc]  # a new worker, of which nothing is known
        self._core = WorkerCore("worker-1", Catalogue(map(_spec, given.items())), capacity, unmeasured_load_s=_load_s)
        self._reports = Reports(self._core, epoch=1)
        return [repr(self._core)]

    def _tell(self, fact: str, arguments: list[str], given: dict[str, str], now: float) -> Iterator[str]:
        core = self._core
        match fact, *arguments:
            case "arrive", name, model, *marks:
                request = Request(model, int(given.get("priority", 0)), given.get("decision", ""), "late" in marks)
                job = core.arrive(request, now, waited_s=float(given.get("waited", 0)))
                self._hold(name, job)
                yield job.cache_result.value
            case "preload", name, model, *marks:
                order = core.preload(model, now, is_pinned="pin" in marks)
                self._hold(name, order)
                yield order.cache_result.value
            case (("leave" | "done"), name):
                core.leave(self._holders[name], now, is_ok=fact == "done")
            case "unload", model:
                closing = core.unload(model, now)
                yield "was not resident" if closing is None else "closes"
            case "loaded", model:
                core.loaded(self._stays[model], int(given.get("parallel", core.catalogue.get(model).max_parallel)), now)
            case "failed", model:
                core.failed(self._stays[model], ModelLoadFailed(model, "its file is missing"), now)
            case "lost", model:
                yield "news" if core.lost(self._stays[model], now) else "known"
            case "closed", model:
                core.closed(self._stays[model], now)
            case (("drain" | "resume"), *_):
                yield f"{core.drain(resume=fact == 'resume')} unfinished"
            case "turn-away", decision_id:
                core.turn_away(decision_id)
            case "report", *_:
                yield from self._report(now)
            case "told", *_:
                yield ", ".join(f"{each.decision_id} {each.cache_result.value}" for each in core.outcomes.unsent()) or "nobody"
            case _:
                raise AssertionError(f"a history cannot say {fact} {arguments}")

    def _hold(self, name: str, holder: Holder) -> None:
        self._holders[name], self._names[holder] = holder, name

    def _report(self, now: float) -> Iterator[str]:
        state = self._reports.next_report(now, now, None, has_catalogue=False, outcomes=())
        used = f"{state.memory_used_bytes // MB}/{state.memory_capacity_bytes // MB} MB"
        yield f"{state.busy_slots}/{state.slots} busy, {state.queue_depth} queued, {used}{', draining' if state.is_draining else ''}"
        for name in sorted(state.models):
            yield f"  {_status(state.models[name])}"
        for name, timing in sorted(state.timings.items()):
            yield f"  {name} takes {timing.service_time_s:g} s, its load {timing.load_time_s:g} s"

    def _show(self, effect: Effect) -> str:
        match effect:
            case Grant(job):
                return f"grant {self._names[job]}"
            case StartLoad(residency):
                self._stays[residency.name] = residency
                return f"load {residency.name}#{residency.key}"
            case Close(residency, is_eviction):
                self._stays[residency.name] = residency
                return f"{'evict' if is_eviction else 'close'} {residency.name}#{residency.key}"
            case Ready(preload):
                return f"ready {self._names[preload]}"
            case Refuse(holder, error):
                return f"refuse {self._names[holder]}: {error}"
            case Say(is_load_only):
                return "say its load" if is_load_only else "say"


def _spec(written: tuple[str, str]) -> ModelSpec:
    name, (size, _, parallel) = written[0], written[1].partition("x")
    return ModelSpec(name, "simulated", "published", size_bytes=int(size) * MB, max_parallel=int(parallel or 2))


def _load_s(spec: ModelSpec) -> float:
    return spec.size_bytes / MB / MB_PER_S


def _status(status: ModelStatus) -> str:
    coming = "" if status.is_ready else f" in {status.ready_in_s:g} s"
    work = f"{status.in_flight} running, {status.queued} queued of {status.max_parallel}"
    return f"{status.name} {status.phase.value}{coming}, {status.size_bytes // MB} MB, {work}{', pinned' if status.is_pinned else ''}"
