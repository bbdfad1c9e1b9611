"""What is asked for, one request after the other: arrivals, models, token counts and service times, each drawn from its own chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from roost.sim.arrivals import Arrivals
from roost.sim.distributions import Distribution, lognormal
from roost.sim.popularity import Popularity
from roost.sim.seeds import rng_for
from roost.sim.traces import TraceRow


class Ask(NamedTuple):
    """One request: `model` is its place in the list of models. `service_s` is 0.0 where it follows from the tokens. `priority` is 0-9."""

    at_s: float
    model: int
    prompt_tokens: int = 0
    output_tokens: int = 0
    service_s: float = 0.0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """How long prompts and answers are, in tokens; at least 1 of each."""

    prompt: Distribution = field(default_factory=lambda: lognormal(200.0, 1.0))
    output: Distribution = field(default_factory=lambda: lognormal(100.0, 1.0))


class Drawn:
    """Draws all but the arrival of each request.

    The sources of chance are separate, so that two runs of one seed that differ in their arrivals have the same models, lengths and
    service times in the same order.
    """

    def __init__(self, seed: int, popularity: Popularity, tokens: Tokens | None, service: Distribution | None) -> None:
        self._popularity = popularity
        self._pick: Callable[[], int] = popularity.picker(rng_for(seed, "models"))
        self._tokens = tokens
        self._service = service
        self._token_rng = rng_for(seed, "tokens")
        self._service_rng = rng_for(seed, "service")

    def ask(self, at_s: float, model: int | None = None) -> Ask:
        """The next request, which comes at that time."""
        chosen = self._popularity.at(self._pick(), at_s) if model is None else model
        service_s = 0.0 if self._service is None else self._service.sample(self._service_rng)
        if self._tokens is None:
            return Ask(at_s, chosen, 0, 0, service_s)
        prompt = max(1, round(self._tokens.prompt.sample(self._token_rng)))
        output = max(1, round(self._tokens.output.sample(self._token_rng)))
        return Ask(at_s, chosen, prompt, output, service_s)


def drawn_asks(arrivals: Arrivals, rng: Random, drawn: Drawn) -> Iterator[Ask]:
    """Endless."""
    for arrival in arrivals.times(rng):
        yield drawn.ask(arrival.at_s, arrival.model)


def with_service(asks: Iterable[Ask], service: Distribution | None, seed: int) -> Iterator[Ask]:
    """A trace's requests, with service times where they are drawn."""
    rng = rng_for(seed, "service")
    for ask in asks:
        yield ask if service is None else ask._replace(service_s=service.sample(rng))


def trace_asks(rows: Iterable[TraceRow], models: Sequence[str]) -> Iterator[Ask]:
    """The requests of a trace; `models` are the names in the order of the run's models."""
    places = {name: place for place, name in enumerate(models)}
    for row in rows:
        yield Ask(row.arrival_s, places[row.model or "model"], row.prompt_tokens, row.output_tokens, row.service_s)
