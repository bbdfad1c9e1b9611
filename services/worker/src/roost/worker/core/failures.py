"""What has failed here, model by model, since it last went well: told in every report, so that deciders ask elsewhere meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from roost.cluster.errors import RoostError
from roost.cluster.worker_state import MAX_FAILING, MAX_WHY, NOTHING_FAILS, Failing

NOTHING = Failing()


class Failures:
    """State: for each model the loads that failed and the requests that its engine broke off, in a row, at most 256 models.

    Of more, the one that failed longest ago is forgotten. `told` is a value that does not change, the same one while nothing does.
    """

    def __init__(self) -> None:
        self.is_news = False  # whether it has changed since this was last set to False
        self.told: Mapping[str, Failing] = NOTHING_FAILS

    def load_failed(self, model: str, error: RoostError) -> None:
        known = self.told.get(model, NOTHING)
        self._keep(model, Failing(known.failed_loads + 1, known.lost_calls, _why(error)))

    def loaded(self, model: str) -> None:
        """That a load went well says nothing of what its engine does with requests."""
        known = self.told.get(model)
        if known is not None and known.failed_loads:
            self._keep(model, Failing(0, known.lost_calls, known.why))

    def call_lost(self, model: str, error: RoostError) -> None:
        known = self.told.get(model, NOTHING)
        self._keep(model, Failing(known.failed_loads, known.lost_calls + 1, _why(error)))

    def served(self, model: str) -> None:
        known = self.told.get(model)
        if known is not None and known.lost_calls:
            self._keep(model, Failing(known.failed_loads, 0, known.why))

    def forget(self) -> None:
        """Whatever has failed may go well now: somebody changed something."""
        self.told = NOTHING_FAILS
        self.is_news = True

    def _keep(self, model: str, failing: Failing) -> None:
        after = {name: each for name, each in self.told.items() if name != model}
        if failing.failed_loads or failing.lost_calls:
            after[model] = failing
        if len(after) > MAX_FAILING:
            del after[next(iter(after))]
        self.told = MappingProxyType(after) if after else NOTHING_FAILS
        self.is_news = True

    def __repr__(self) -> str:
        return f"<Failures of {', '.join(self.told) or 'nothing'}>"


def _why(error: RoostError) -> str:
    """Without the model's name, where that stands apart, and as much of it as a report carries."""
    why = str(getattr(error, "why", error))
    return why if len(why) <= MAX_WHY else f"{why[: MAX_WHY - 3]}..."
