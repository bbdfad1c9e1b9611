"""What `roost up` shows while it runs: a live table on a terminal, a line now and then anywhere else."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from roost.client.cli.tables import state_view, totals_line
from roost.client.results import ClusterState

NOBODY = "nobody answers"
LINE_EVERY_S = 3.0  # a log that follows the cluster is not to be flooded


class Screen(Protocol):
    """Where `roost up` says things."""

    def line(self, text: str) -> None:
        """Something happened."""

    def show(self, state: ClusterState | None, now: float, /) -> None:
        """The cluster's state at `now` (seconds, any monotonic clock); None: nobody answers."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def screen_for(console: Console) -> Screen:
    return TerminalScreen(console) if console.is_terminal else PlainScreen(console)


class TerminalScreen:
    """A table that is drawn over itself, with the lines above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        self._console.print(Text(text))

    def show(self, state: ClusterState | None, _now: float, /) -> None:
        self._live.update(Text(NOBODY, style="red") if state is None else state_view(state), refresh=True)


class PlainScreen:
    """One line when something has changed, and not more often than every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""
        self._last_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return

    def line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def show(self, state: ClusterState | None, now: float, /) -> None:
        text = NOBODY if state is None else totals_line(state)
        if text != self._last and now - self._last_at >= LINE_EVERY_S:
            self._last, self._last_at = text, now
            self.line(text)
