"""Drawing candidates by chance at a cost that does not grow with the fleet."""

from __future__ import annotations

from collections.abc import Sequence

from roost.placement.candidate import Candidate, Group
from roost.placement.fleet import Fleet
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng

# Draws that may hit an excluded candidate before the others are listed. A request excludes at most 256: at 2,560 candidates, eight such
# draws in a row happen once in a hundred million requests.
_DRAWS = 8


def draw(fleet: Fleet, request: PlacementRequest, rng: Rng, count: int) -> list[Candidate]:
    """Up to `count` different candidates that can take the request, each set of them equally likely."""
    groups = fleet.groups_for(request.model)
    total = sum(len(group.members) for group in groups)
    drawn: list[Candidate] = []
    for _ in range(_DRAWS):
        if len(drawn) == min(count, total):
            return drawn
        candidate = _member(groups, rng.randrange(total))
        if candidate.node_id not in request.excluded and candidate not in drawn:
            drawn.append(candidate)
    return drawn if len(drawn) == count else _draw_from_list(groups, request, rng, count)


def _draw_from_list(groups: Sequence[Group], request: PlacementRequest, rng: Rng, count: int) -> list[Candidate]:
    left = [candidate for group in groups for candidate in group.members if candidate.node_id not in request.excluded]
    return [left.pop(rng.randrange(len(left))) for _ in range(min(count, len(left)))]


def _member(groups: Sequence[Group], position: int) -> Candidate:
    for group in groups:
        if position < len(group.members):
            return group.members[position]
        position -= len(group.members)
    raise IndexError("position is not below the number of members")
