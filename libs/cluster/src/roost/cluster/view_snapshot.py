"""A view written down: everything that bears on how it goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from roost.cluster.known_models import SharedCatalogue
from roost.cluster.worker_entry import WorkerEntry
from roost.cluster.worker_state import CatalogueModel


@dataclass(frozen=True, slots=True)
class ViewSnapshot:
    """Every order is the view's own, because ties are broken by it. Times are the view's, in seconds.

    `own` is the catalogue it was made with; `shared` are those that workers sent, each with the number of its users; `seen` is what only
    residencies told of models. `alive` and `dead` name the entries, longest silent first.
    """

    dead_after_s: float
    forget_after_s: float
    max_workers: int
    own: tuple[CatalogueModel, ...]
    shared: tuple[SharedCatalogue, ...]
    seen: tuple[CatalogueModel, ...]
    entries: tuple[WorkerEntry, ...]
    alive: tuple[str, ...]
    dead: tuple[str, ...]
    now: float
    advanced_at: float
    silence_counts_from: float
    version: int

    def resident_on(self) -> Mapping[str, int]:
        """How many workers list each model as loading or ready."""
        return Counter(name for entry in self.entries for name in entry.state.models)
