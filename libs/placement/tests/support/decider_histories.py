"""A decider's behaviour as text: what it is told stands at the margin, what came of it indented below.

`python decider_histories.py --rewrite FILE...` writes what comes of it today into the files; `git diff` then shows what changed.

    terms capacity=2                         what holds for it; the first line, if any
    at 1.5                                   the time, in seconds; it begins at 0
    report w1 ready=a,b queue=2              a worker's report, further ones as they come
    told w1 live ready=a                     another decider's word on a worker
    ask r1 a priority=3 deadline=0.5         a request, which may wait unless it says `at-once`
    give-up r1, timer, lost w1, ended w1, judge w1 dead, forget w1, silence, pass, stop
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from roost.cluster.errors import RoostError
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CacheResult, CatalogueModel, DecisionOutcome, Liveness, ModelStatus, ModelTiming, Phase, WorkerState
from roost.placement import facts
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered, Effect, Load
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms

GB = 1_000_000_000
MODELS = tuple(CatalogueModel(name, "simulated", 10 * GB) for name in "abc")
Words = dict[str, str]


class Teller:
    """One history. State: the decider, the time, and what each request came to."""

    def __init__(self) -> None:
        self._now = 0.0
        self._sequence = 0
        self._tickets: dict[str, Ticket] = {}
        self._decisions: dict[str, Decision] = {}
        self._decider = self._made({})
        self._verbs: dict[str, Callable[[str, Words], Iterator[str]]] = {
            "terms": self._terms, "at": self._at, "report": self._report, "told": self._told, "ask": self._ask, "give-up": self._give_up,
            "timer": self._timer, "lost": self._lost, "ended": self._ended, "judge": self._judge, "forget": self._forget,
            "silence": self._silence, "pass": self._pass, "stop": self._stop,
        }  # fmt: skip

    def tell(self, line: str) -> Iterator[str]:
        """What comes of one line."""
        verb, *words = line.split()
        name = words.pop(0) if words and "=" not in words[0] else ""
        yield from self._verbs[verb](name, dict(_pair(word) for word in words))

    def _made(self, words: Words) -> Decider:
        terms = Terms(
            "d",
            words.get("policy", "expected-wait"),
            is_view_shared="is_view_shared" in words,
            can_tell="can_tell" in words,
            lets_wait=words.get("lets_wait") != "no",
            aging_s=float(words.get("aging", 10.0)),
            longest_wait_s=float(words.get("longest_wait", 30.0)),
            capacity=int(words.get("capacity", 1000)),
            waiting_per_slot=0,
        )
        return Decider(ClusterView(catalogue=MODELS, dead_after_s=10.0, forget_after_s=60.0), terms, rng=random.Random(1))

    # --- what it is told --------------------------------------------------------------------------

    def _terms(self, name: str, words: Words) -> Iterator[str]:
        self._decider = self._made({name: "", **words})
        yield from ()

    def _at(self, name: str, words: Words) -> Iterator[str]:
        self._now = float(name)
        yield from ()

    def _report(self, name: str, words: Words) -> Iterator[str]:
        yield from self._hear(facts.Reported(self._state(name, words), is_streamed=True, stream=int(words.get("stream", 1))))

    def _told(self, name: str, words: Words) -> Iterator[str]:
        liveness = next(each for each in Liveness if each.value in words)
        written_at = float(words.get("written", self._now))
        yield from self._hear(facts.Told(self._state(name, words), liveness, written_at, written_at - 0.5))

    def _state(self, name: str, words: Words) -> WorkerState:
        self._sequence += 1
        models = {each: ModelStatus(each, Phase.READY, 10 * GB) for each in _list(words, "ready")}
        for each, seconds in map(_split, _list(words, "loading")):
            models[each] = ModelStatus(each, Phase.LOADING, 10 * GB, ready_in_s=float(seconds))
        found = [_split(each) for each in _list(words, "outcomes")]
        return WorkerState(
            name,
            models,
            queue_depth=int(words.get("queue", 0)),
            busy_slots=int(words.get("busy", 0)),
            slots=int(words.get("slots", 1)),
            epoch=int(words.get("epoch", 1)),
            sequence=int(words.get("sequence", self._sequence)),
            address=f"{name}:8001",
            memory_capacity_bytes=int(words.get("memory", 1)) * 10 * GB,
            memory_used_bytes=len(models) * 10 * GB,
            timings={each.name: ModelTiming(0.1, 2.0) for each in MODELS},
            is_draining="draining" in words,
            catalogue=MODELS,
            outcomes=tuple(DecisionOutcome(self._decisions[each].decision_id, CacheResult(result)) for each, result in found),
        )

    def _lost(self, name: str, words: Words) -> Iterator[str]:
        yield from self._hear(facts.StreamLost(name, 1, int(words.get("stream", 1))))

    def _ended(self, name: str, words: Words) -> Iterator[str]:
        yield from self._hear(facts.StreamEnded(name, 1, int(words.get("stream", 1))))

    def _judge(self, name: str, words: Words) -> Iterator[str]:
        yield from self._hear(facts.Judged(name, next(each for each in Liveness if each.value in words)))

    def _forget(self, name: str, words: Words) -> Iterator[str]:
        yield from self._hear(facts.Forgotten(name))

    def _silence(self, name: str, words: Words) -> Iterator[str]:
        yield from self._hear(facts.SilenceJudged())

    def _pass(self, name: str, words: Words) -> Iterator[str]:
        yield from self._hear(facts.TimePassed())

    def _stop(self, name: str, words: Words) -> Iterator[str]:
        yield from self._hear(facts.Stopping("the coordinator"))

    def _hear(self, fact: facts.Fact) -> Iterator[str]:
        if not self._decider.hear(fact, self._now):
            yield "nothing new"
        yield from self._effects()

    # --- what it is asked -------------------------------------------------------------------------

    def _ask(self, name: str, words: Words) -> Iterator[str]:
        model, *_ = words
        request = PlacementRequest(
            name,
            model,
            int(words.get("priority", 0)),
            deadline_s=float(words.get("deadline", 0.0)),
            excluded=frozenset(_list(words, "excluding")),
            may_queue="at-once" not in words,
        )
        try:
            answer = self._decider.ask(request, self._now)
        except RoostError as refusal:
            yield f"{name} {_told_of(refusal)}"
            return
        if isinstance(answer, Ticket):
            self._tickets[name] = answer
            yield f"{name} waits"
        else:
            yield f"{name} {self._decided(name, answer)}"
        yield from self._effects()

    def _give_up(self, name: str, words: Words) -> Iterator[str]:
        if not self._decider.give_up(self._tickets.pop(name), self._now):
            yield "it was answered before"

    def _timer(self, name: str, words: Words) -> Iterator[str]:
        at = self._decider.next_timer()
        if at is None:
            yield "none is set"
            return
        self._now = max(self._now, at)
        yield f"at {self._now:.3f}"
        self._decider.handle_timer(self._now)
        yield from self._effects()

    def _effects(self) -> Iterator[str]:
        for effect in self._decider.effects():
            yield self._effect(effect)

    def _effect(self, effect: Effect) -> str:
        if isinstance(effect, Answered):
            name, result = effect.ticket.request.request_id, effect.result
            return f"{name} {_told_of(result) if isinstance(result, RoostError) else self._decided(name, result)}"
        if isinstance(effect, Load):
            return f"load {effect.model} on {effect.node_id}"
        silent = f" after {effect.silent_s:.1f} s of silence" if effect.silent_s else ""
        return f"{effect.node_id} {effect.life.value}{silent}"

    def _decided(self, name: str, decision: Decision) -> str:
        self._decisions[name] = decision
        late = ", a join" if decision.waited_for_load else ""
        return f"goes to {decision.worker_id}, {decision.action.value} in {decision.estimated_wait_s:.2f} s{late}: {decision.reason}"


def _told_of(refusal: RoostError) -> str:
    return f"is refused, {refusal.reason}: {refusal}"


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value


def _split(word: str) -> tuple[str, str]:
    name, _, value = word.partition(":")
    return name, value


def _list(words: Words, name: str) -> list[str]:
    return words[name].split(",") if name in words else []


def retold(text: str) -> str:
    """The history as it comes out today."""
    teller = Teller()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        lines.append(line)
        if line.strip() and not line.startswith("#"):
            lines += [f"    {each}" for each in teller.tell(line)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name in sys.argv[2:] if sys.argv[1:2] == ["--rewrite"] else []:
        Path(name).write_text(retold(Path(name).read_text()))
