"""A catalogue that was changed while the worker runs: read again, told to deciders, and applied to what is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from roost.cluster.errors import ModelInUse
from roost.service.catalogue_file import CatalogueFile, shown
from roost.service.logs import get_logger
from roost.service.startup import CannotStart
from roost.worker.runtime import Runtime

log = get_logger()


class Told(Protocol):
    """A link to a decider."""

    def tell_catalogue(self) -> None: ...


class CatalogueReload:
    """Calling it reads the file again, and forgets what has failed. A file with a mistake is told in the log and changes nothing."""

    def __init__(self, file: CatalogueFile, runtime: Runtime, links: Sequence[Told]) -> None:
        self._file = file
        self._runtime = runtime
        self._links = links

    async def __call__(self) -> None:
        """Idle models whose entry changed or went are put out; busy ones stay as they are until they are put out."""
        try:
            found, changes = self._file.read()
        except CannotStart as error:
            log.error("catalogue_not_reloaded", why=str(error))  # noqa: TRY400 - a mistake of whoever wrote the file, not ours
            return
        busy = [name for name in changes.outdated if not await self._put_out(name)]
        self._file.take_over(found, keep=self._resident(changes.removed))
        self._runtime.forget_failures()
        if changes:
            for link in self._links:
                link.tell_catalogue()
        log.info(
            "catalogue_reloaded",
            models=len(found),
            added=shown(changes.added),
            removed=shown(changes.removed),
            changed=shown(changes.changed),
            busy=shown(busy),
        )

    async def _put_out(self, name: str) -> bool:
        try:
            await self._runtime.unload(name)
        except ModelInUse:
            return False
        return True

    def _resident(self, names: Iterable[str]) -> list[str]:
        cache = self._runtime.core.cache
        held = {residency.name for residency in (*cache.resident, *cache.waiting)}
        return [name for name in names if name in held]
