"""What callers got, token by token, beside what they should have got; and how long nothing came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class CheckedStream:
    """One stream. State: the next index that is due, and how many tokens were lost, repeated or wrong so far.

    `expected`: the texts of its tokens, from index 0.
    """

    expected: Sequence[str]
    due: int = 0
    lost: int = 0
    repeated: int = 0
    wrong: int = 0

    def hear(self, index: int, text: str) -> None:
        """A token came."""
        if index < self.due:
            self.repeated += 1
            return
        self.lost += index - self.due
        self.due = index + 1
        if index >= len(self.expected) or self.expected[index] != text:
            self.wrong += 1

    def complete(self) -> None:
        """The stream said that this was all."""
        self.lost += max(0, len(self.expected) - self.due)
        self.due = max(self.due, len(self.expected))


@dataclass
class Pauses:
    """How long nothing came, from `begin` on. State: open requests with when each last got something, and the last token of anybody.

    `recovery_s`: the longest time in which requests were open and none of them got a token. `longest_s`: the longest time that any one
    request waited for its next token, its first one included. Times before `begin` count as `begin`; times are seconds of one clock.
    """

    begins: float | None = None
    recovery_s: float = 0.0
    longest_s: float = 0.0
    _open: dict[int, float] = field(default_factory=dict)
    _since: float | None = None

    def begin(self, now: float) -> None:
        """The first fault happens now."""
        self.begins = now
        if self._open:
            self._since = now

    def opened(self, request: int, now: float) -> None:
        if not self._open:
            self._since = now
        self._open[request] = now

    def token(self, request: int, now: float) -> None:
        self._measure(request, now)
        self._open[request] = self._since = now

    def closed(self, request: int, now: float) -> None:
        """It ended, well or not: what it waited until now counts."""
        self._measure(request, now)
        del self._open[request]
        if not self._open:
            self._since = None

    def _measure(self, request: int, now: float) -> None:
        if self.begins is None:
            return
        self.longest_s = max(self.longest_s, now - max(self.begins, self._open[request]))
        if self._since is not None:
            self.recovery_s = max(self.recovery_s, now - max(self.begins, self._since))
