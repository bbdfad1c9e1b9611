"""How busy the accelerator is, asked of NVIDIA's library where there is a device."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pynvml

from roost.cluster.worker_state import GpuSource
from roost.service.logs import get_logger

SAMPLE_INTERVAL_S = 1.0  # the driver averages over up to a second itself

log = get_logger()


class GpuMeter:
    """State: `measured`, the last reading of the devices, 0.0-1.0, or None where there is none to ask: then reports take the busy slots.

    `read_devices` blocks and returns the mean utilisation, 0.0-1.0; it runs in a thread, at most once a second.
    """

    def __init__(self, read_devices: Callable[[], float] | None, *, interval_s: float = SAMPLE_INTERVAL_S) -> None:
        self._read_devices = read_devices
        self._interval_s = interval_s
        self.measured: float | None = None

    async def run(self) -> None:
        """Samples until cancelled; ends at once where there is nothing to sample, and for good when the library fails."""
        while self._read_devices is not None:
            try:
                await self.sample()
            except pynvml.NVMLError as error:
                log.warning("gpu_unreadable", why=str(error), instead=GpuSource.BUSY_SLOTS.value)
                self.measured = self._read_devices = None
                return
            await asyncio.sleep(self._interval_s)

    async def sample(self) -> None:
        """Reads the devices once. Raises NVMLError."""
        if self._read_devices is not None:
            self.measured = await asyncio.to_thread(self._read_devices)


def find_devices() -> Callable[[], float] | None:
    """Reads the mean utilisation of this machine's NVIDIA devices; None where there is no driver or no device."""
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None
    if not handles:
        return None

    def read() -> float:
        rates = [float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) for handle in handles]
        return sum(rates) / len(rates) / 100.0

    return read
