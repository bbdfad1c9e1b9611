"""What a flow is told: one value for each thing that may happen to a generation. What workers tell is in `steps`."""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar

from roost.cluster.errors import RoostError
from roost.flow.errors import Failure
from roost.flow.setbacks import Setback
from roost.flow.steps import Accepted, Completed, Progress, Started, Token


class Choice(Protocol):
    """A decision, as far as a flow looks at it."""

    @property
    def worker_id(self) -> str: ...


DecisionT = TypeVar("DecisionT", bound=Choice)


class Decided(NamedTuple, Generic[DecisionT]):
    """The decider that was asked has chosen a worker."""

    decision: DecisionT


class Refused(NamedTuple):
    """It refused."""

    error: RoostError


class Unreachable(NamedTuple):
    """It was not reached, did not answer in time, or is stopping."""

    failure: Failure


class Declined(NamedTuple):
    """The worker that was called refused, or gave up. `setback` None: every other worker would too."""

    error: RoostError
    setback: Setback | None
    wish_s: float = 0.0


class Lost(NamedTuple):
    """The worker was not reached, fell silent, the connection to it broke, or what it sent makes no sense."""

    why: str
    setback: Setback = Setback.LOST


Heard = Decided[DecisionT] | Refused | Unreachable | Declined | Lost | Accepted | Started | Progress | Token | Completed
