"""What a worker learns of its models: smoothed service and load times. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType

from roost.cluster.worker_state import ModelTiming
from roost.worker.core.change_log import ChangeLog

MAX_TIMED_MODELS = 256  # what one report carries; the least recently measured ones go first
NEWEST_SHARE = 0.2  # weight of a new measurement: about the last ten count
UNMEASURED_SERVICE_S = 1.0  # a short answer of a small model on one core


class LearnedTimes:
    """State: one ModelTiming a model, at most 256, which of them were measured last, and when each has changed."""

    def __init__(self) -> None:
        self.log = ChangeLog()
        self._timings: dict[str, ModelTiming] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._shown: Mapping[str, ModelTiming] = {}
        self._shown_version = 0

    @property
    def timings(self) -> Mapping[str, ModelTiming]:
        """What is known now, as a value that does not change; the same one while nothing was measured."""
        if self._shown_version != self.log.version:
            self._shown, self._shown_version = MappingProxyType(self._timings.copy()), self.log.version
        return self._shown

    def served(self, name: str, service_time_s: float) -> None:
        """A completed request of `name` held a slot for so long."""
        known = self._timings.get(name, ModelTiming())
        self._keep(name, ModelTiming(_smooth(known.service_time_s, service_time_s), known.load_time_s))

    def loaded(self, name: str, load_time_s: float) -> None:
        """A load of `name` took so long."""
        known = self._timings.get(name, ModelTiming())
        self._keep(name, ModelTiming(known.service_time_s, _smooth(known.load_time_s, load_time_s)))

    def measured_load_s(self, name: str) -> float:
        """Smoothed seconds of its loads, 0.0 before the first."""
        known = self._timings.get(name)
        return 0.0 if known is None else known.load_time_s

    def expected_service_s(self, name: str) -> float:
        """Measured, else the mean of the other models, else one second."""
        known = self._timings.get(name)
        if known is not None and known.service_time_s > 0:
            return known.service_time_s
        return self.mean_service_s()

    def mean_service_s(self) -> float:
        """Mean over the measured models, one second before any measurement."""
        measured = [timing.service_time_s for timing in self._timings.values() if timing.service_time_s > 0]
        return sum(measured) / len(measured) if measured else UNMEASURED_SERVICE_S

    def _keep(self, name: str, timing: ModelTiming) -> None:
        self._timings[name] = timing
        self._recent[name] = None
        self._recent.move_to_end(name)
        self.log.changed(name)
        if len(self._timings) > MAX_TIMED_MODELS:
            oldest, _ = self._recent.popitem(last=False)
            del self._timings[oldest]
            self.log.changed(oldest)


def _smooth(known_s: float, measured_s: float) -> float:
    """The first measurement counts in full; 0.0 means never measured, so a measured 0.0 is kept as the smallest positive time."""
    measured_s = max(measured_s, 1e-6)
    return measured_s if known_s <= 0 else known_s + NEWEST_SHARE * (measured_s - known_s)
