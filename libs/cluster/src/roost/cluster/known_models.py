"""Which models the cluster knows: the union of the view's own catalogue, every worker's, and what was seen resident.

State: how many sources name each model. Invariants: a name is known while at least one source names it; equal catalogues of different
workers are kept once, so that 10,000 workers with the same catalogue cost one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType

from roost.cluster.errors import UnknownModel
from roost.cluster.names import nearest_names
from roost.cluster.worker_state import CatalogueModel, ModelStatus

MAX_COMPARED_NAMES = 250  # a spelling hint is worth a few milliseconds of the event loop, not more
MAX_HINTS = 256  # misspelt names whose hints are kept, because what is misspelt once is asked for again


class SharedCatalogue:
    """What one or more workers can load, kept once for all that sent the same. Compared by identity."""

    __slots__ = ("largest_bytes", "models", "names", "source", "users")

    def __init__(self, source: tuple[CatalogueModel, ...]) -> None:
        self.source = source
        self.models: Mapping[str, CatalogueModel] = MappingProxyType({model.name: model for model in source})
        self.names = frozenset(self.models)
        self.largest_bytes = max((model.size_bytes for model in source), default=0)
        self.users = 0

    def __repr__(self) -> str:
        return f"<SharedCatalogue {len(self.models)} models, {self.users} workers>"


class KnownModels:
    """Names that a request may ask for."""

    def __init__(self, own: Iterable[CatalogueModel] = ()) -> None:
        self._own = {model.name: model for model in own}
        self._shared: dict[tuple[CatalogueModel, ...], SharedCatalogue] = {}
        self._catalogued: Mapping[str, CatalogueModel] = dict(self._own)
        self._resident_on: dict[str, int] = {}  # how many workers list the model as loading or ready
        self._seen: dict[str, CatalogueModel] = {}  # what a residency tells of a model; its size is the last one reported
        self._union: Mapping[str, CatalogueModel] | None = None
        self._hints: dict[str, tuple[str, ...]] = {}

    def shared(self) -> tuple[SharedCatalogue, ...]:
        """The catalogues that workers have sent, the one known longest first."""
        return tuple(self._shared.values())

    def seen(self) -> tuple[CatalogueModel, ...]:
        """What residencies tell of models."""
        return tuple(self._seen.values())

    def own(self) -> tuple[CatalogueModel, ...]:
        """The view's own catalogue."""
        return tuple(self._own.values())

    def become(self, own: Iterable[CatalogueModel]) -> None:
        """Another own catalogue, in place of the one before."""
        self._own = {model.name: model for model in own}
        self._recount()

    def restore(self, shared: Iterable[SharedCatalogue], seen: Iterable[CatalogueModel], resident_on: Mapping[str, int]) -> None:
        """Take over what another view knew, into one that knows only its own catalogue."""
        self._shared = {catalogue.source: catalogue for catalogue in shared}
        self._seen = {model.name: model for model in seen}
        self._resident_on = dict(resident_on)
        self._recount()

    def __contains__(self, name: str) -> bool:
        return name in self._catalogued or name in self._seen

    def get(self, name: str) -> CatalogueModel | None:
        return self._catalogued.get(name) or self._seen.get(name)

    def union(self) -> Mapping[str, CatalogueModel]:
        """Every known model by name, ordered. The own catalogue wins over workers', theirs over what was only seen resident."""
        if self._union is None:
            both = {**self._seen, **self._catalogued}
            self._union = MappingProxyType({name: both[name] for name in sorted(both)})
            self._hints = {}
        return self._union

    def check(self, name: str) -> None:
        """Raises UnknownModel, with the names most like it."""
        if name in self:
            return
        known = self.union()
        if name not in self._hints:
            if len(self._hints) >= MAX_HINTS:
                self._hints.clear()
            self._hints[name] = nearest_among(name, known)
        raise UnknownModel(name, self._hints[name])

    def share(self, source: tuple[CatalogueModel, ...], before: SharedCatalogue | None) -> SharedCatalogue:
        """Count one worker that sent `source` in place of `before`."""
        if before is not None and before.source == source:
            return before
        shared = self._shared.get(source)
        if shared is None:
            shared = self._shared[source] = SharedCatalogue(source)
            self._recount()
        shared.users += 1
        self.release(before)
        return shared

    def release(self, shared: SharedCatalogue | None) -> None:
        """Forget that one worker has this catalogue."""
        if shared is None:
            return
        shared.users -= 1
        if shared.users == 0:
            del self._shared[shared.source]
            self._recount()

    def residents_changed(
        self, before: Mapping[str, ModelStatus], after: Mapping[str, ModelStatus], among: Iterable[str] | None = None
    ) -> None:
        """One worker's resident models changed from `before` to `after`, none but those `among` them; None: any may have."""
        if among is None:
            if before.keys() == after.keys():
                return
            among = (*after, *before)
        for name in among:
            if name in after:
                if name not in before:
                    self._came(name, after[name].size_bytes)
            elif name in before:
                self._went(name)

    def _came(self, name: str, size_bytes: int) -> None:
        self._resident_on[name] = self._resident_on.get(name, 0) + 1
        self._seen[name] = CatalogueModel(name, "", size_bytes)
        if name not in self._catalogued:
            self._union = None

    def _went(self, name: str) -> None:
        self._resident_on[name] -= 1
        if self._resident_on[name] == 0:
            del self._resident_on[name], self._seen[name]
            if name not in self._catalogued:
                self._union = None

    def _recount(self) -> None:
        catalogued: dict[str, CatalogueModel] = {}
        for shared in reversed(self._shared.values()):
            catalogued.update(shared.models)  # where catalogues differ, the one known longest wins
        self._catalogued = catalogued | self._own
        self._union = None


def nearest_among(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """`nearest_names`, with its cost bounded: of many names only those that begin alike are compared."""
    return nearest_names(name, islice(_worth_comparing(name, list(known)), MAX_COMPARED_NAMES))


def _worth_comparing(name: str, known: list[str]) -> Iterator[str]:
    if len(known) <= MAX_COMPARED_NAMES:
        yield from known
        return
    folded = name.casefold()
    for length in (4, 1):
        beginning = folded[:length]
        alike = [candidate for candidate in known if candidate.casefold().startswith(beginning)]
        if alike:
            yield from alike
            return
