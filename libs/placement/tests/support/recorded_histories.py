"""Random histories of a decider, told to a recorded one. `python recorded_histories.py POLICY SEED STEPS` prints the recording."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from roost.cluster.errors import RoostError
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import (
    CacheCounters,
    CacheResult,
    CatalogueModel,
    DecisionOutcome,
    Failing,
    Liveness,
    ModelStatus,
    ModelTiming,
    Phase,
    WorkerState,
)
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered, Effect
from roost.placement.facts import (
    Catalogued,
    Fact,
    Forgotten,
    Judged,
    Reported,
    SilenceJudged,
    Stopping,
    StreamEnded,
    StreamLost,
    TimePassed,
    Told,
)
from roost.placement.recording import earlier
from roost.placement.recording.events import Beginning, Event
from roost.placement.recording.journal import Journal
from roost.placement.recording.reading import Reader
from roost.placement.recording.writing import Writer
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms

GB = 1_000_000_000
CATALOGUE = tuple(CatalogueModel(f"model-{number}", "simulated", (2 + number % 5) * GB) for number in range(12))
OTHER_CATALOGUE = (*CATALOGUE[:4], CatalogueModel("model-own", "llamacpp", GB, load_time_s=0.3))
NAMES = [model.name for model in (*CATALOGUE, OTHER_CATALOGUE[-1])]


class History:
    """A recorded decider to which things happen by chance. `files` are its recording, anew after each `file_events` events."""

    def __init__(
        self,
        policy: str,
        seed: int,
        *,
        file_events: int = 10**9,
        is_view_shared: bool = False,
        can_tell: bool = True,
        workers: int = 12,
        may_queue: bool = True,
    ) -> None:
        self.files: list[str] = []
        self.rng = random.Random(seed)
        self._names = [f"worker-{number}" for number in range(workers)]
        self._may_queue = may_queue
        self._writer = Writer()
        self._file_events = file_events
        self._left = file_events
        terms = Terms(
            "d",
            policy,
            is_view_shared=is_view_shared,
            can_tell=can_tell,
            reservation_bound_s=2.0,
            aging_s=3.0,
            longest_wait_s=4.0,
            capacity=9,
        )
        view = ClusterView(dead_after_s=4.0, forget_after_s=6.0, max_workers=workers - 2, catalogue=CATALOGUE[:3])
        self.decider = Decider(view, terms, rng=random.Random())
        self.journal = Journal(self.decider, self._write, self._fresh_chance, plane="central", wall_offset_s=1e9)
        self.now = 100.0
        self._sequences = itertools.count(1)
        self._ids = itertools.count(1)
        self._decisions: list[Decision] = []
        self._tickets: list[Ticket] = []

    def _fresh_chance(self) -> tuple[int, random.Random]:
        seed = self.rng.getrandbits(32)
        return seed, random.Random(seed)

    def _write(self, event: Beginning | Event) -> bool:
        if isinstance(event, Beginning):
            self.files.append(self._writer.first_lines(event))
            self._left = self._file_events
            return False
        self.files[-1] += self._writer.line(event)
        self._left -= 1
        return self._left == 0

    def go_on(self, steps: int) -> None:
        happenings = (
            [self._report] * 5 + [self._ask] * 8 + [self._ring] * 3 + [self._time, self._lose, self._give_up, self._told, self._preview]
        )
        for _ in range(steps):
            self.now += self.rng.choice((0.0, 0.01, 0.1, 0.1, 0.7)) * 4 / len(self._names)  # a report of each about every 3 s
            self.rng.choice(happenings)()

    def _state(self) -> WorkerState:
        rng = self.rng
        name = rng.choice(self._names)
        models = {}
        for model in rng.sample(NAMES, rng.randrange(7)):
            phase = rng.choice((Phase.READY, Phase.READY, Phase.LOADING))
            ready_in_s = rng.random() if phase is Phase.LOADING else 0.0
            models[model] = ModelStatus(
                model, phase, rng.randrange(4) * GB, rng.randrange(3), rng.randrange(3), ready_in_s, rng.random() < 0.1
            )
        busy = rng.randrange(5)
        rng.shuffle(self._decisions)
        arrived = [self._decisions.pop() for _ in range(min(len(self._decisions), rng.randrange(4)))]
        return WorkerState(
            name,
            models,
            queue_depth=rng.randrange(6),
            gpu_utilization=rng.random(),
            epoch=rng.choice((0, 1, 1, 1, 1, 2)),
            sequence=next(self._sequences),
            address=f"{name}:8001",
            memory_capacity_bytes=20 * GB,
            memory_used_bytes=rng.randrange(20) * GB,
            slots=4,
            busy_slots=busy,
            queue_by_priority=tuple(rng.randrange(2) for _ in range(10)) if rng.random() < 0.3 else (),
            timings={model: ModelTiming(rng.random(), 3 * rng.random()) for model in rng.sample(NAMES, 3)},
            is_draining=rng.random() < 0.05,
            catalogue=rng.choice((None, None, CATALOGUE, OTHER_CATALOGUE)),
            outcomes=tuple(DecisionOutcome(each.decision_id, rng.choice(list(CacheResult))) for each in arrived),
            cache=CacheCounters(hits=rng.randrange(9)) if rng.random() < 0.5 else None,
            failing=self._failing() if rng.random() < 0.3 else {},
        )

    def _failing(self) -> dict[str, Failing]:
        rng = self.rng
        return {model: Failing(rng.randrange(3), rng.randrange(6), "it broke") for model in rng.sample(NAMES, rng.randrange(4))}

    def _report(self) -> None:
        self._hear(Reported(self._state(), is_streamed=self.rng.random() < 0.9, stream=self.rng.randrange(3)))

    def _told(self) -> None:
        written_at = self.now - self.rng.choice((0.0, 0.2, 2.0))
        self._hear(Told(self._state(), self.rng.choice(list(Liveness)), written_at, written_at - 0.5))

    def _hear(self, fact: Fact) -> None:
        with suppress(RoostError):
            self.decider.hear(fact, self.now)
        effects = self.decider.effects()
        self.journal.heard(fact, self.now, effects)
        self._were_answered(effects)

    def _were_answered(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Answered):
                self._tickets.remove(effect.ticket)
                if isinstance(effect.result, Decision):
                    self._decisions.append(effect.result)

    def _request(self, *, may_queue: bool) -> PlacementRequest:
        rng = self.rng
        return PlacementRequest(
            f"r{next(self._ids)}",
            rng.choice([*NAMES, "no-such-model"] if rng.random() < 0.1 else NAMES[:5]),
            rng.choice((0, 0, 3, 9)),
            max_tokens=rng.randrange(100),
            deadline_s=rng.choice((0.0, 0.0, 0.5, 5.0)),
            excluded=frozenset(rng.choice(self._names) for _ in range(rng.choice((0, 0, 3)))),
            may_queue=may_queue and rng.random() < 0.7,
        )

    def _preview(self) -> None:
        request = self._request(may_queue=False)
        answer: Decision | RoostError
        try:
            answer = self.decider.preview(request, self.now)
        except RoostError as refusal:
            answer = refusal
        self.journal.previewed(request, self.now, answer)

    def _ask(self) -> None:
        request = self._request(may_queue=self._may_queue)
        answer: Decision | Ticket | RoostError
        try:
            answer = self.decider.ask(request, self.now)
        except RoostError as refusal:
            answer = refusal
        if isinstance(answer, Ticket):
            self._tickets.append(answer)
        elif isinstance(answer, Decision):
            self._decisions.append(answer)
        self.journal.asked(request, self.now, answer)

    def _ring(self) -> None:
        self.decider.handle_timer(self.now)
        effects = self.decider.effects()
        self._were_answered(effects)
        self.journal.rang(self.now, effects)

    def _time(self) -> None:
        self._hear(TimePassed())
        if self.rng.random() < 0.2:
            self._hear(Catalogued(self.rng.choice((CATALOGUE[:3], OTHER_CATALOGUE))))
        self._hear(SilenceJudged(self.rng.choice((None, 0.25))))

    def _lose(self) -> None:
        name, rng = self.rng.choice(self._names), self.rng
        losses = (StreamLost(name, 1, 1), Judged(name, rng.choice(list(Liveness))), Forgotten(name), StreamEnded(name, 1, 2))
        self._hear(rng.choice(losses))

    def _give_up(self) -> None:
        if self._tickets:
            ticket = self._tickets.pop(self.rng.randrange(len(self._tickets)))
            if self.decider.give_up(ticket, self.now):
                self.journal.gave_up(ticket, self.now)

    def stop(self) -> None:
        self._hear(Stopping("the decider"))


def happened(text: str) -> Iterator[Beginning | Event | earlier.Event]:
    """What the text of one file tells."""
    return Reader().read(text.splitlines(keepends=True))


if __name__ == "__main__":
    history = History(sys.argv[1], int(sys.argv[2]), workers=40)
    history.go_on(int(sys.argv[3]))
    sys.stdout.write("".join(history.files))
