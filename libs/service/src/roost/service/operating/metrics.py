"""What is counted of commands, in both planes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from roost.cluster.errors import RoostError


class CommandMetrics:
    """State: the collector, registered once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._commands = Counter("roost_commands", "Commands to workers, by what became of them.", ["command", "result"], registry=registry)

    def commanded(self, command: str, outcome: object) -> None:
        """`outcome` is the error of a command that was not done."""
        self._commands.labels(command, outcome.reason.lower() if isinstance(outcome, RoostError) else "ok").inc()
