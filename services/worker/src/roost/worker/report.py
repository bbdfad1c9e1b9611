"""The core's reports, with what only a process knows: the time, and how busy its devices are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roost.cluster.worker_state import DecisionOutcome, WorkerState
from roost.worker.core.reports import Reports
from roost.worker.core.worker_core import WorkerCore
from roost.worker.gpu import GpuMeter


@dataclass(frozen=True, slots=True)
class Clocks:
    """`monotonic` measures durations; `wall` dates reports, in seconds since the Unix epoch."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


class Reporter:
    """Says what is so at the moment of the call. State: the reports of this life, and the address by which clients reach this worker."""

    def __init__(self, core: WorkerCore, gpu: GpuMeter, *, epoch: int, clocks: Clocks) -> None:
        self._reports = Reports(core, epoch=epoch)
        self._gpu = gpu
        self._clocks = clocks

    @property
    def address(self) -> str:
        return self._reports.address

    @address.setter
    def address(self, address: str) -> None:
        self._reports.address = address

    @property
    def epoch(self) -> int:
        """Which life this is."""
        return self._reports.life.epoch

    def outbid(self, told_epoch: int) -> bool:
        """A decider prefers a life of that epoch: true if ours was raised above it, because that one is an earlier one."""
        return self._reports.life.outbid(told_epoch, int(self._clocks.wall() * 1e9))

    def next_report(self, *, has_catalogue: bool, outcomes: tuple[DecisionOutcome, ...], follows: int = 0) -> WorkerState:
        """The state now, as the next report of this epoch, for a reader who had the report `follows` before (0: none)."""
        now, wall_s = self._clocks.monotonic(), self._clocks.wall()
        return self._reports.next_report(now, wall_s, self._gpu.measured, has_catalogue=has_catalogue, outcomes=outcomes, follows=follows)

    def state(self) -> WorkerState:
        """The state now, under the number of the last report."""
        return self._reports.state(self._clocks.monotonic(), self._clocks.wall(), self._gpu.measured)
