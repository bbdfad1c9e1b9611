"""A local cluster from its first process to a view that has every worker, and what happens to it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from roost.client.client import RoostClient
from roost.client.errors import ClusterUnreachable
from roost.client.local.plan import ProcessPlan
from roost.client.local.processes import Child, Processes, unusable_port
from roost.client.results import ClusterState
from roost.cluster.errors import RoostError
from roost.cluster.worker_state import Liveness

POLL_S = 0.1  # between looks at a cluster that is starting


class StartFailed(RoostError):
    """The cluster did not come up; the message says which process, and shows the end of its log where it has one."""

    reason = "START_FAILED"

    def __init__(self, what: str, log_tail: str = "") -> None:
        super().__init__(what)
        self.log_tail = log_tail


async def start(processes: Processes, plans: Sequence[ProcessPlan], host: str) -> None:
    """Starts every process. Raises StartFailed, before the first one, if a port cannot be had."""
    problem = unusable_port(host, plans)
    if problem:
        raise StartFailed(problem)
    for plan in plans:
        await processes.start(plan)


async def wait_registered(processes: Processes, client: RoostClient, *, bound_s: float, on_progress: Callable[[int], None]) -> ClusterState:
    """The first view in which every worker is live. Raises StartFailed if a process ends before, or the time is up."""
    names = {child.plan.name for child in processes.children if child.plan.is_worker}
    live: set[str] = set()
    try:
        async with asyncio.timeout(bound_s):
            while True:
                for child in processes.sweep():
                    raise _died(child)
                state = await state_or_none(client)
                if state is not None:
                    live = names & {worker.state.node_id for worker in state.workers if worker.liveness is Liveness.LIVE}
                    on_progress(len(live))
                    if live == names:
                        return state
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        late = next((child for child in processes.children if child.plan.name in names - live), processes.children[0])
        message = f"{', '.join(sorted(names - live))} did not register within {bound_s:g} s; the log is {late.log}"
        raise StartFailed(message, late.tail()) from error


async def state_or_none(client: RoostClient) -> ClusterState | None:
    """The view, or None while nobody answers."""
    try:
        return await client.state()
    except ClusterUnreachable:
        return None


def _died(child: Child) -> StartFailed:
    return StartFailed(f"{child.plan.name} {child.ending()} while the cluster was starting; the log is {child.log}", child.tail())
