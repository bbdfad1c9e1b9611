"""Loads that deciders want: told to workers, never waited for, bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from structlog.testing import capture_logs

from roost.cluster.errors import RoostError, WorkerUnreachable
from roost.placement.effects import Load
from roost.service.logs import get_logger
from roost.service.operating.commands import Action, CommandResult
from roost.service.operating.errands import MAX_ERRANDS, Errands

DEADLINE_S = 5.0


class Workers:
    """Answers each command with what the test puts into `answers`, in order."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[str, Action, float]] = asyncio.Queue()
        self.answers: asyncio.Queue[CommandResult | RoostError] = asyncio.Queue()

    async def command(self, worker_id: str, action: Action, timeout_s: float) -> CommandResult:
        self.asked.put_nowait((worker_id, action, timeout_s))
        answer = await self.answers.get()
        if isinstance(answer, RoostError):
            raise answer
        return answer


@contextlib.asynccontextmanager
async def making(errands: Errands, workers: Workers) -> AsyncIterator[None]:
    async with asyncio.timeout(DEADLINE_S):
        task = asyncio.create_task(errands.run(workers))
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def settled(errands: Errands) -> None:
    while repr(errands) != "<Errands 0 under way>":  # noqa: ASYNC110 - nothing announces it, for nobody else wants to know
        await asyncio.sleep(0)


def told(logs: Sequence[Mapping[str, object]]) -> list[object]:
    return [log["is_sent"] for log in logs if log["event"] == "load_wanted"]


async def test_a_copy_is_sent_to_its_worker_and_what_came_of_it_is_logged() -> None:
    errands, workers = Errands(timeout_s=7.0, log=get_logger()), Workers()
    with capture_logs() as logs:
        async with making(errands, workers):
            errands.begin(Load("worker-1", "m"))
            worker_id, action, timeout_s = await workers.asked.get()
            assert (worker_id, action.kind, timeout_s) == ("worker-1", "load_model", 7.0)
            workers.answers.put_nowait(CommandResult("c", elapsed_s=0.5))
            await settled(errands)
    assert [log["event"] for log in logs] == ["load_wanted", "load_ended"]
    assert {(log["worker_id"], log["model"]) for log in logs} == {("worker-1", "m")}


async def test_a_load_that_is_under_way_is_not_asked_for_twice_and_one_that_failed_may_be_again() -> None:
    errands, workers = Errands(timeout_s=7.0, log=get_logger()), Workers()
    with capture_logs() as logs:
        async with making(errands, workers):
            for worker_id in ("worker-1", "worker-1", "worker-2"):
                errands.begin(Load(worker_id, "m"))
            workers.answers.put_nowait(WorkerUnreachable("worker-1", "it is gone"))
            workers.answers.put_nowait(CommandResult("c", code=8, message="no room"))
            await settled(errands)
            errands.begin(Load("worker-1", "m"))
    assert told(logs) == [True, False, True, True]
    assert [log["event"] for log in logs].count("load_refused") == 2


async def test_loads_on_their_way_are_bounded() -> None:
    errands = Errands(timeout_s=7.0, log=get_logger())
    with capture_logs() as logs:
        for number in range(MAX_ERRANDS + 5):
            errands.begin(Load("worker-1", f"m{number}"))
    assert told(logs).count(True) == MAX_ERRANDS
