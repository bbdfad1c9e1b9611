"""Simulated runs side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from roost.sim.experiments import simulated
from roost.sim.experiments.plan import Plan
from roost.sim.records import RunRecord


def carried_out(plans: Sequence[Plan], jobs: int, on_done: Callable[[int, Plan], None]) -> dict[Plan, RunRecord]:
    """Every plan's record. `on_done` hears how many are done, and which was the last. The result does not depend on `jobs`."""
    wanted = list(dict.fromkeys(plans))
    found: dict[Plan, RunRecord] = {}
    if jobs == 1:
        for plan in wanted:
            found[plan] = simulated.carry(plan)
            on_done(len(found), plan)
        return found
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        longest_first = sorted(wanted, key=lambda plan: -plan.setup.workers)  # so that no core waits for one long run at the end
        running = {pool.submit(simulated.carry, plan): plan for plan in longest_first}
        try:
            for done in as_completed(running):
                found[running[done]] = done.result()
                on_done(len(found), running[done])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found
