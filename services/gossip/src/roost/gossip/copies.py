"""Has workers load models for those who wait for them. Nobody waits for the answer: whoever waits goes where there is room first.

State: the copies that were asked for and not yet told to a worker, and those that are loading. Invariants: both together at most
MAX_COPIES; a worker is told to load a model once until it has answered.
"""

from __future__ import annotations

import asyncio
from typing import Final

from roost.cluster.errors import RoostError
from roost.service.logs import Logger
from roost.service.operating.commands import LoadModel
from roost.service.operating.operations import Reach

MAX_COPIES: Final = 64  # a cluster's workers load one model each at a time; what is beyond this is asked for again by those who wait

Copy = tuple[str, str]  # the worker, the model


class Copies:
    """`timeout_s`: for a worker to load the model; what becomes of it is logged."""

    def __init__(self, *, timeout_s: float, log: Logger) -> None:
        self._timeout_s = timeout_s
        self._log = log
        self._wanted: asyncio.Queue[Copy] = asyncio.Queue(maxsize=MAX_COPIES)
        self._under_way: set[Copy] = set()

    def want(self, worker_id: str, model: str) -> None:
        """That worker should load that model. It is not told if it is loading it for us already, or if too many copies are under way."""
        copy = (worker_id, model)
        is_told = copy not in self._under_way and len(self._under_way) < MAX_COPIES
        if is_told:
            self._under_way.add(copy)
            self._wanted.put_nowait(copy)
        self._log.info("copy_wanted", worker_id=worker_id, model=model, is_told=is_told)

    async def keep_making(self, reach: Reach) -> None:
        """Tells workers by `reach`, side by side, for as long as it runs."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                copy = await self._wanted.get()
                tasks.create_task(self._make(reach, copy))

    async def _make(self, reach: Reach, copy: Copy) -> None:
        try:
            await self.load(reach, *copy)
        finally:
            self._under_way.discard(copy)

    async def load(self, reach: Reach, worker_id: str, model: str) -> bool:
        """Has the worker load the model, and says in the log what came of it: true if it is ready."""
        try:
            result = await reach.command(worker_id, LoadModel(model), self._timeout_s)
        except RoostError as error:
            self._log.warning("copy_failed", worker_id=worker_id, model=model, why=str(error))
            return False
        if result.code:
            self._log.warning("copy_failed", worker_id=worker_id, model=model, why=result.message)
            return False
        self._log.info("copy_made", worker_id=worker_id, model=model, elapsed_s=round(result.elapsed_s, 3))
        return True

    def __repr__(self) -> str:
        return f"<Copies {len(self._under_way)} under way>"
