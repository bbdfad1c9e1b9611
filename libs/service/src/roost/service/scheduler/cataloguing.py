"""A decider's own catalogue that was changed while it runs: read again, and told to the decider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from roost.cluster.worker_state import CatalogueModel
from roost.placement.facts import Catalogued
from roost.service.catalogue_file import CatalogueFile, shown
from roost.service.logs import Logger
from roost.service.startup import CannotStart


class DeciderCatalogue:
    """Calling it reads the file again. A file with a mistake is told in the log and changes nothing."""

    def __init__(self, path: Path | None, variable: str, *, log: Logger) -> None:
        """`path` None is the catalogue that ships; `variable` is named where the file cannot be read. Raises CannotStart."""
        self._file = CatalogueFile(path, variable)
        self._log = log
        self.hear: Callable[[Catalogued], object] | None = None  # whoever decides, once there is somebody

    @property
    def models(self) -> tuple[CatalogueModel, ...]:
        """What it says of models, as it was last read whole."""
        return tuple(self._file.catalogue.catalogue_models())

    async def __call__(self) -> None:
        try:
            found, changes = self._file.read()
        except CannotStart as error:
            self._log.error("catalogue_not_reloaded", why=str(error))
            return
        self._file.take_over(found)
        if changes and self.hear is not None:
            self.hear(Catalogued(self.models))
        self._log.info(
            "catalogue_reloaded",
            models=len(found),
            added=shown(changes.added),
            removed=shown(changes.removed),
            changed=shown(changes.changed),
        )
