"""Text and tokens, whatever the vocabulary; cuts generated text at stop strings, however it falls into tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from roost.worker.engines.interface import GeneratedToken

MOST_CHARACTERS_PER_TOKEN: Final = 256  # the longest tokens of real vocabularies are long runs of spaces, below this


class StopFilter:
    """Holds tokens back while their text may be the beginning of a stop string.

    Invariant: the text of the held tokens contains no stop string. Tokens come out in order, each with its own text; the token in
    which a stop string begins is cut there, and what follows is dropped. Of several stop strings the one that ends first wins.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held: list[GeneratedToken] = []
        self._held_text = ""
        self.is_stopped = False

    def push(self, token: GeneratedToken) -> list[GeneratedToken]:
        """The tokens that became certain. Once `is_stopped`, the generation is over."""
        self._held.append(token)
        self._held_text += token.text
        start = self._first_stop()
        if start is not None:
            self.is_stopped = True
            return self._cut(start)
        if self._may_begin_a_stop():
            return []
        return self.flush()

    def flush(self) -> list[GeneratedToken]:
        """Everything held: the generation ended otherwise, so no stop string will follow."""
        held, self._held, self._held_text = self._held, [], ""
        return held

    def _first_stop(self) -> int | None:
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held_text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _may_begin_a_stop(self) -> bool:
        return any(self._held_text.endswith(stop[:size]) for stop in self._stops for size in range(1, len(stop)))

    def _cut(self, start: int) -> list[GeneratedToken]:
        kept: list[GeneratedToken] = []
        for token in self.flush():
            if start <= 0:
                break
            kept.append(GeneratedToken(token.id, token.text[:start]))
            start -= len(token.text)
        return kept


class Telling:
    """Tokens on their way out, of a generation that may have been told in part.

    State: a StopFilter and how many tokens that were told already may still come out of it, which they must not. What was told before
    goes through the filter too, because a stop string may have begun in it.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._filter = StopFilter(stops)
        self._told = 0

    @property
    def is_stopped(self) -> bool:
        return self._filter.is_stopped

    def was_told(self, token: GeneratedToken) -> None:
        """The next token was told before; call it before any `push`."""
        self._told += 1
        self._untold(self._filter.push(token))

    def push(self, token: GeneratedToken) -> list[GeneratedToken]:
        """See `StopFilter.push`."""
        return self._untold(self._filter.push(token))

    def flush(self) -> list[GeneratedToken]:
        """See `StopFilter.flush`."""
        return self._untold(self._filter.flush())

    def _untold(self, tokens: list[GeneratedToken]) -> list[GeneratedToken]:
        skipped = min(self._told, len(tokens))
        self._told -= skipped
        return tokens[skipped:]
