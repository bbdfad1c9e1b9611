"""What happens to a decider, in the order in which it happened: each is one line of a recording.

Each holds what came of it: its answer, or the tickets that were answered by it. Times are the decider's own, in seconds. Nothing here is
ever changed, so an event can be handed to another thread as it is.
"""

from __future__ import annotations

from typing import NamedTuple

from roost.cluster.errors import RoostError
from roost.placement.decider import DeciderSnapshot
from roost.placement.decision import Decision
from roost.placement.facts import Fact
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms


class Refusal(NamedTuple):
    """A refusal as it is written down: its machine-readable word and its sentence."""

    reason: str
    message: str

    @classmethod
    def of(cls, error: RoostError) -> Refusal:
        return cls(error.reason, str(error))


Answer = Decision | Refusal
Answers = tuple[tuple[int, Answer], ...]
"""Tickets that were answered, by their numbers, in order."""


class Heard(NamedTuple):
    """`Decider.hear`."""

    fact: Fact
    now: float
    answers: Answers = ()


class Asked(NamedTuple):
    """`Decider.ask`. The answer, or the number of the ticket under which the request waits from now on."""

    request: PlacementRequest
    now: float
    answer: Answer | int


class Previewed(NamedTuple):
    """`Decider.preview`: nothing came of it but that it drew on chance."""

    request: PlacementRequest
    now: float
    answer: Answer


class GaveUp(NamedTuple):
    """`Decider.give_up` of one that still waited."""

    number: int
    now: float


class TimerRang(NamedTuple):
    """`Decider.handle_timer`."""

    now: float
    answers: Answers = ()


Event = Heard | Asked | Previewed | GaveUp | TimerRang


class Origin(NamedTuple):
    """Where a recording comes from. `remember`: how many decisions its decider kept; `wall_offset_s`: wall clock minus its clock."""

    plane: str
    remember: int
    wall_offset_s: float


class Beginning(NamedTuple):
    """The first thing in a file: all from which the decider itself went on. `seed` is of the chance that it drew on from there."""

    terms: Terms
    origin: Origin
    seed: int
    state: DeciderSnapshot
