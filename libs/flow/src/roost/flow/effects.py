"""What a flow wants done. Whoever drives it carries each out and tells it what came of it."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from roost.cluster.errors import RoostError
from roost.flow.heard import DecisionT
from roost.flow.steps import Accepted, Completed, Progress, Resumed, Token
from roost.flow.told import Told

TargetT = TypeVar("TargetT")


class Ask(NamedTuple, Generic[TargetT]):
    """Ask this decider for a worker that is none of `excluded`. It has `reach_s` to be connected and `timeout_s` to answer.

    `deadline_s`: seconds in which the generation must have begun, 0.0 for no bound. `may_wait`: it may wait there for a worker.
    """

    target: TargetT
    excluded: frozenset[str]
    may_wait: bool
    deadline_s: float
    reach_s: float
    timeout_s: float


class Call(NamedTuple, Generic[DecisionT]):
    """Send the request to the worker that was chosen, which has `answer_s` to say that it has it. `attempt` counts from 1.

    `previous` says what went wrong before, "" on the first; `waited_s` is since the generation was asked for. `told`: what it goes on from,
    None where it begins; `seed`: the one that holds, None as long as no worker chose one.
    """

    decision: DecisionT
    attempt: int
    previous: str
    waited_s: float
    answer_s: float
    timeout_s: float
    seed: int | None = None
    told: Told | None = None


class Emit(NamedTuple):
    """Hand it on to the caller."""

    step: Accepted | Progress | Resumed | Token | Completed


class GoOn(NamedTuple):
    """Nothing new: what is being done goes on."""


class Pause(NamedTuple):
    """Nothing is to be done for `wait_s`. `cause`: what the deciders said or that none answered; None: a worker did not do it."""

    wait_s: float
    cause: RoostError | None


class Fail(NamedTuple):
    """The generation is over: the caller gets `error`."""

    error: RoostError


Effect = Ask[TargetT] | Call[DecisionT] | Emit | GoOn | Pause | Fail
