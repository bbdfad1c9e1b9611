"""Does to the processes of a local cluster what a schedule says."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import Final

from roost.client.chaos.core.rows import Act, Fault
from roost.client.local.guard import signal_group
from roost.client.local.plan import ProcessPlan
from roost.client.local.processes import Child, Processes

END_S: Final = 45.0  # longer than the 30 s that a worker lets its requests finish: what has not ended then never will
SIGNALS: Final = {Act.KILL: signal.SIGKILL, Act.END: signal.SIGTERM, Act.STOP: signal.SIGSTOP, Act.CONTINUE: signal.SIGCONT}


async def carry_out(faults: Sequence[Fault], processes: Processes, plans: Sequence[ProcessPlan], begins: float) -> None:
    """Carries out each fault at its time, or as soon after it as the ones before are done. `begins`: the loop's time of their 0.

    Raises TimeoutError if a process that was told to end does not.
    """
    loop = asyncio.get_running_loop()
    by_name = {plan.name: plan for plan in plans}
    for fault in faults:
        await asyncio.sleep(begins + fault.at_s - loop.time())
        if fault.act is Act.START:
            await processes.start(by_name[fault.process])
        elif fault.act is Act.RESTART:
            await _end(_child(processes, fault.process), signal.SIGTERM, processes)
            await processes.start(by_name[fault.process])
        elif fault.act in {Act.KILL, Act.END}:
            await _end(_child(processes, fault.process), SIGNALS[fault.act], processes)
        else:
            signal_group(_child(processes, fault.process).group, SIGNALS[fault.act])


def _child(processes: Processes, name: str) -> Child:
    return next(child for child in processes.children if child.plan.name == name)


async def _end(child: Child, number: int, processes: Processes) -> None:
    signal_group(child.group, number)
    async with asyncio.timeout(END_S):
        await child.wait()
    processes.sweep()
