"""How long things are expected to take on this worker: measured where they were, else as an engine says."""

from __future__ import annotations

from collections.abc import Callable

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.worker.core.timings import LearnedTimes


class Expectations:
    """Joins what was learned with what an engine says of a load that was never measured (`unmeasured_load_s`)."""

    def __init__(self, catalogue: Catalogue, times: LearnedTimes, unmeasured_load_s: Callable[[ModelSpec], float]) -> None:
        self._catalogue = catalogue
        self._times = times
        self._unmeasured_load_s = unmeasured_load_s

    def load_s(self, name: str) -> float:
        """Of a load of `name`. Raises UnknownModel."""
        return self._times.measured_load_s(name) or self._unmeasured_load_s(self._catalogue.get(name))

    def service_s(self, name: str) -> float:
        """Of a request of `name`, from its slot to its last token."""
        return self._times.expected_service_s(name)
