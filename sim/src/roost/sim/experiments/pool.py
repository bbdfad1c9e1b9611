"""Simulated runs side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager

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
        try:
            with _ctrl_c_ignored():  # by the processes that begin now: the terminal tells them, too, and it is this one that ends them
                running = {pool.submit(simulated.carry, plan): plan for plan in longest_first}
            for done in as_completed(running):
                found[running[done]] = done.result()
                on_done(len(found), running[done])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # a run may have minutes left, and nobody waits for it
            raise
    return found


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
