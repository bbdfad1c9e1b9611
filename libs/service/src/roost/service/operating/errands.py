"""Loads that a decider wants begun: each is a command to its worker, on its way beside everything else.

State: those that were not sent yet, and those under way. Invariants: both together are at most MAX_ERRANDS; a worker is told to load a
model once until it has answered. What is beyond is left out, because requests go where there is room whether or not a worker did as it
was told.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from roost.cluster.errors import RoostError
from roost.placement.effects import Load
from roost.service.logs import Logger
from roost.service.operating.commands import Action, CommandResult, LoadModel

MAX_ERRANDS: Final = 64  # a cluster's workers load one model each at a time; what is beyond is asked for again by those who wait


class Commands(Protocol):
    """How a plane reaches workers."""

    async def command(self, worker_id: str, action: Action, timeout_s: float) -> CommandResult:
        """What the worker answers within `timeout_s`, whatever it says. Raises NoCapacity, WorkerUnreachable."""
        ...


class Errands:
    """`timeout_s`: what a worker has to load; what becomes of it is logged. Must be used from one event loop."""

    def __init__(self, *, timeout_s: float, log: Logger) -> None:
        self._timeout_s = timeout_s
        self._log = log
        self._wanted: asyncio.Queue[Load] = asyncio.Queue(maxsize=MAX_ERRANDS)
        self._under_way: set[tuple[str, str]] = set()

    def begin(self, load: Load) -> None:
        """It is sent as soon as `run` comes to it, if there is room for it and the worker was not told so already."""
        key = (load.node_id, load.model)
        is_sent = key not in self._under_way and len(self._under_way) < MAX_ERRANDS
        if is_sent:
            self._under_way.add(key)
            self._wanted.put_nowait(load)
        self._log.info("load_wanted", worker_id=load.node_id, model=load.model, is_sent=is_sent, why=load.why)

    async def run(self, commands: Commands) -> None:
        """Sends them, side by side, until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._one(await self._wanted.get(), commands))

    async def _one(self, load: Load, commands: Commands) -> None:
        try:
            result = await commands.command(load.node_id, LoadModel(load.model), self._timeout_s)
            if result.code:
                self._refused(load, result.message)
            else:
                self._log.info("load_ended", worker_id=load.node_id, model=load.model, elapsed_s=round(result.elapsed_s, 3))
        except RoostError as refusal:
            self._refused(load, str(refusal))
        finally:
            self._under_way.discard((load.node_id, load.model))

    def _refused(self, load: Load, why: str) -> None:
        self._log.warning("load_refused", worker_id=load.node_id, model=load.model, why=why)

    def __repr__(self) -> str:
        return f"<Errands {len(self._under_way)} under way>"
