"""Where a model is on its way into memory: by the reports, and by decisions that no report has shown yet. So that loads are joined."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from roost.placement.candidate import Candidate
from roost.placement.fleet import Fleet
from roost.placement.request import PlacementRequest

MAX_LOOKED_AT = 16  # loads of one model under way at once; more than these few are a flood in which any will do


class Coming:
    """State: for each model the workers that were told to load it, by name. What is no longer true is dropped when it is looked at."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._sent: dict[str, list[str]] = {}
        for candidate in fleet.candidates():  # where a decider goes on from a snapshot: what it has sent, its reservations know
            for model in candidate.reserved.by_model:
                self.sending(candidate, model)

    def is_any(self, model: str) -> bool:
        """Whether `to` might find one."""
        return model in self._sent or bool(self._fleet.loading_on(model))

    def to(self, request: PlacementRequest) -> Iterator[Candidate]:
        """Those that are loading the request's model or were told to, up to MAX_LOOKED_AT of each."""
        loading = (each for name, each in self._fleet.loading_on(request.model).items() if name not in request.excluded)
        yield from islice(loading, MAX_LOOKED_AT)
        sent = self._sent.get(request.model)
        if sent is not None:
            groups = self._fleet.groups_for(request.model)
            found = (self._fleet.get(name) for name in sent)
            still = [each for each in found if each is not None and each.group in groups and _is_on_its_way(each, request.model)]
            if still:
                self._sent[request.model] = [each.node_id for each in still]
            else:
                del self._sent[request.model]
            yield from islice((each for each in still if each.node_id not in request.excluded), MAX_LOOKED_AT)

    def sending(self, candidate: Candidate, model: str) -> None:
        """A request for the model goes there: if that begins a load, others may join it from now on."""
        if model not in candidate.state.models:
            sent = self._sent.setdefault(model, [])
            if candidate.node_id not in sent:
                sent.append(candidate.node_id)


def _is_on_its_way(candidate: Candidate, model: str) -> bool:
    """A request for the model was sent there, and no report has shown it."""
    return model in candidate.reserved.by_model and model not in candidate.state.models
