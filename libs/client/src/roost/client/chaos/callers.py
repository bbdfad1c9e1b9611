"""A steady load of callers that know every token they should get."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from roost.client.chaos.core.checking import CheckedStream, Pauses
from roost.client.chaos.core.report import Trial
from roost.client.client import RoostClient
from roost.client.results import Completed, Token
from roost.cluster.errors import RoostError

CALL_S: Final = 60.0  # a caller that would rather wait than fail
TOKENS: Final = 120  # of one answer: at the catalogue's pace some seconds, so that faults meet streams under way
AGAIN_S: Final = 0.2  # before a caller that was refused asks the next thing


@dataclass
class Callers:
    """State: what each stream was worth so far, and how long nothing came."""

    client: RoostClient
    model: str
    pauses: Pauses = field(default_factory=Pauses)
    streams: list[CheckedStream] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    tokens: int = 0

    async def undisturbed(self, number: int) -> tuple[str, ...]:
        """The texts of the tokens that caller `number` gets where nothing is wrong."""
        generation = self.client.generate(self.model, _prompt(number), max_tokens=TOKENS, timeout_s=CALL_S)
        async with aclosing(generation) as events:
            return tuple([event.text async for event in events if isinstance(event, Token)])

    async def call(self, number: int, expected: tuple[str, ...], is_over: asyncio.Event) -> None:
        """Asks the same thing again and again until it is over; what runs then is heard to its end."""
        while not is_over.is_set():
            await self._ask(number, expected)

    async def _ask(self, number: int, expected: tuple[str, ...]) -> None:
        stream, now = CheckedStream(expected), asyncio.get_running_loop().time
        self.streams.append(stream)
        self.pauses.opened(number, now())
        try:
            generation = self.client.generate(self.model, _prompt(number), max_tokens=TOKENS, timeout_s=CALL_S)
            async with aclosing(generation) as events:
                async for event in events:
                    if isinstance(event, Token):
                        stream.hear(event.index, event.text)
                        self.tokens += 1
                        self.pauses.token(number, now())
                    elif isinstance(event, Completed):
                        stream.complete()
        except RoostError as error:
            self.failures.append(error.reason)
            await asyncio.sleep(AGAIN_S)
        finally:
            self.pauses.closed(number, now())

    def measured(self) -> Trial:
        return Trial(
            requests=len(self.streams),
            tokens=self.tokens,
            lost=sum(stream.lost for stream in self.streams),
            repeated=sum(stream.repeated for stream in self.streams),
            wrong=sum(stream.wrong for stream in self.streams),
            failures=tuple(self.failures),
            recovery_s=self.pauses.recovery_s,
            longest_s=self.pauses.longest_s,
        )


def _prompt(number: int) -> str:
    return f"Story number {number}: once"
