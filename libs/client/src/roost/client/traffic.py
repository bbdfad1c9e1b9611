"""A bounded open-loop load: requests that come whether or not the cluster keeps up, and what became of them."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from roost.client.client import RoostClient
from roost.client.requests import GenerateOptions
from roost.client.results import ClusterState, Completed, Token
from roost.cluster.errors import InvalidField, RoostError
from roost.cluster.worker_entry import fits, room_bytes
from roost.cluster.worker_state import CacheResult, Liveness
from roost.placement.rng import Rng

MAX_SAMPLES = 100_000  # times to first token that are kept; the first ones of a longer run


@dataclass(frozen=True, slots=True)
class TrafficOptions:
    """`rate` requests a second on average (Poisson), `concurrency` at once at most, for `duration_s` (0.0: until stopped).

    `models` are ordered by popularity; the k-th is asked for in proportion to 1 / k ** `zipf` (0.0: all alike).
    """

    models: tuple[str, ...]
    rate: float
    duration_s: float
    concurrency: int
    max_tokens: int
    zipf: float
    timeout_s: float

    def __post_init__(self) -> None:
        if not self.models:
            raise InvalidField("models", "is empty; the cluster knows none, or none was given")
        for name, value, low, high in (
            ("rate", self.rate, 0.001, 10_000.0),
            ("duration", self.duration_s, 0.0, 1e7),
            ("concurrency", self.concurrency, 1, 10_000),
            ("zipf", self.zipf, 0.0, 10.0),
        ):
            if not low <= value <= high:
                raise InvalidField(name, f"must be {low:g}-{high:g} (got {value:g})")


def models_that_fit(state: ClusterState) -> tuple[str, ...]:
    """The models that some live worker has memory for, by name; while no worker is live, all of them: any that comes may."""
    rooms = [room_bytes(worker.state) for worker in state.workers if worker.liveness is Liveness.LIVE] or [0]
    return tuple(each.model.name for each in state.models if each.ready_on or any(fits(each.model.size_bytes, room) for room in rooms))


@dataclass(slots=True)
class TrafficCounts:
    """What became of the requests so far. `skipped` ones came while `concurrency` others were under way and were not sent."""

    sent: int = 0
    ok: int = 0
    skipped: int = 0
    tokens: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    cache: Counter[CacheResult] = field(default_factory=Counter)
    first_token_s: list[float] = field(default_factory=list)

    @property
    def unfinished(self) -> int:
        """Requests that are under way, or were when the run was ended."""
        return self.sent - self.ok - self.failed.total()

    @property
    def hit_rate(self) -> float:
        """Hits among the requests whose worker said what they found, 0.0-1.0."""
        answered = sum(self.cache.values())
        return self.cache[CacheResult.HIT] / answered if answered else 0.0

    def first_token_at(self, share: float) -> float:
        """The time to first token, in seconds, that `share` of the requests did not exceed; 0.0 without any."""
        ordered = sorted(self.first_token_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Popularity:
    """Chooses models by Zipf's law."""

    def __init__(self, models: Sequence[str], exponent: float) -> None:
        self._models = tuple(models)
        self._cumulative = list(itertools.accumulate(1.0 / rank**exponent for rank in range(1, len(self._models) + 1)))

    def choose(self, rng: Rng) -> str:
        at = bisect.bisect_right(self._cumulative, rng.random() * self._cumulative[-1])
        return self._models[min(at, len(self._models) - 1)]


def next_arrival_s(rate: float, rng: Rng) -> float:
    """Seconds to the next of Poisson arrivals."""
    return -math.log(1.0 - rng.random()) / rate


class Traffic:
    """One run. State: `counts`, and how many requests are under way (never more than `concurrency`)."""

    def __init__(self, client: RoostClient, options: TrafficOptions, rng: Rng) -> None:
        self.counts = TrafficCounts()
        self._client = client
        self._options = options
        self._rng = rng
        self._popularity = Popularity(options.models, options.zipf)
        self._under_way = 0

    async def run(self) -> None:
        """Returns when the duration is over and every request has ended. Cancelling it ends the requests; the counts stay."""
        clock = asyncio.get_running_loop().time
        due = clock()
        ends_at = due + (self._options.duration_s or math.inf)
        async with asyncio.TaskGroup() as requests:
            while (due := due + next_arrival_s(self._options.rate, self._rng)) < ends_at:
                await asyncio.sleep(max(0.0, due - clock()))
                if self._under_way >= self._options.concurrency:
                    self.counts.skipped += 1
                    continue
                self._under_way += 1
                self.counts.sent += 1
                requests.create_task(self._request(self._popularity.choose(self._rng), self.counts.sent))

    async def _request(self, model: str, number: int) -> None:
        started = asyncio.get_running_loop().time()
        prompt = f"Request number {number}: once upon a time"
        options = GenerateOptions(max_tokens=self._options.max_tokens, timeout_s=self._options.timeout_s)
        has_token = False
        try:
            async with aclosing(self._client.generate(model, prompt, **options)) as events:
                async for event in events:
                    if isinstance(event, Token) and not has_token:
                        has_token = True
                        self._note_first_token(asyncio.get_running_loop().time() - started)
                    elif isinstance(event, Completed):
                        self._note_completed(event)
        except RoostError as error:
            self.counts.failed[error.reason] += 1
        finally:
            self._under_way -= 1

    def _note_first_token(self, seconds: float) -> None:
        if len(self.counts.first_token_s) < MAX_SAMPLES:
            self.counts.first_token_s.append(seconds)

    def _note_completed(self, event: Completed) -> None:
        self.counts.ok += 1
        self.counts.tokens += event.usage.completion_tokens
        if event.cache is not None:
            self.counts.cache[event.cache] += 1

    def __repr__(self) -> str:
        return f"<Traffic {self._under_way} under way, {self.counts.sent} sent, {self.counts.ok} ok, {self.counts.failed.total()} failed>"
