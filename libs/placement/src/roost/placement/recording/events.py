"""What happens to a decider, in the order in which it happened: each is one line of a recording.

A call that decides holds what came of it. Times are the decider's own, in seconds. Nothing here is ever changed, so an event can be
handed to another thread as it is.
"""

from __future__ import annotations

from typing import NamedTuple

from roost.cluster.errors import RoostError
from roost.cluster.view_snapshot import ViewSnapshot
from roost.cluster.worker_state import DecisionOutcome, Liveness, WorkerState
from roost.placement.decision import Decision
from roost.placement.placer import PlacerSnapshot
from roost.placement.request import PlacementRequest


class Refusal(NamedTuple):
    """A refusal as it is written down: its machine-readable word and its sentence."""

    reason: str
    message: str

    @classmethod
    def of(cls, error: RoostError) -> Refusal:
        return cls(error.reason, str(error))


Answer = Decision | Refusal


# --- the view is told ----------------------------------------------------------------------------------


class Reported(NamedTuple):
    """`ClusterView.apply`."""

    state: WorkerState
    now: float
    is_streamed: bool
    stream: int


class StreamLost(NamedTuple):
    """`ClusterView.stream_lost`."""

    node_id: str
    epoch: int
    now: float
    stream: int


class Judged(NamedTuple):
    """`ClusterView.judge`."""

    node_id: str
    liveness: Liveness
    now: float


class Forgotten(NamedTuple):
    """`ClusterView.forget`."""

    node_id: str


class LeftByItself(NamedTuple):
    """`ClusterView.leave`."""

    node_id: str
    epoch: int
    stream: int


class SilenceJudged(NamedTuple):
    """`ClusterView.advance`."""

    now: float
    expected_interval_s: float | None


# --- the placer is told --------------------------------------------------------------------------------


class Settled(NamedTuple):
    """`Placer.settle`."""

    node_id: str
    outcomes: tuple[DecisionOutcome, ...]
    now: float


class Seen(NamedTuple):
    """`Placer.seen`."""

    node_id: str
    made_before: float


class TimePassed(NamedTuple):
    """`Placer.advance`."""

    now: float


# --- the dispatcher is asked ---------------------------------------------------------------------------


class Placed(NamedTuple):
    """`Dispatcher.place`; None: the request had better wait."""

    request: PlacementRequest
    now: float
    answer: Answer | None


class BeganToWait(NamedTuple):
    """`Dispatcher.wait`. The waiter's number names it from now on; 0 where there was no room, and `refusal` says so."""

    request: PlacementRequest
    now: float
    number: int
    refusal: Refusal | None


class GaveUp(NamedTuple):
    """`Dispatcher.take_out` of one that still waited."""

    number: int


class WasBound(NamedTuple):
    """`Dispatcher.bind`, with each waiter that was answered, by its number."""

    now: float
    changed: str
    has_opened: bool
    answers: tuple[tuple[int, Answer], ...]


Event = (
    Reported
    | StreamLost
    | Judged
    | Forgotten
    | LeftByItself
    | SilenceJudged
    | Settled
    | Seen
    | TimePassed
    | Placed
    | BeganToWait
    | GaveUp
    | WasBound
)


# --- where a recording begins --------------------------------------------------------------------------


class Terms(NamedTuple):
    """What holds for a decider as long as it lives. `wall_offset_s`: wall clock minus the clock of the recording."""

    policy: str
    decider: str
    plane: str
    is_view_shared: bool
    can_tell: bool
    reservation_bound_s: float
    remember: int
    wall_offset_s: float


class NumberedWaiter(NamedTuple):
    """One who waits when a recording begins."""

    number: int
    request: PlacementRequest
    since: float
    found_ready: bool


class WaitingLine(NamedTuple):
    """Those who wait for the same model then, by arrival, and when they are tried again (infinite: when a worker opens)."""

    waiters: tuple[NumberedWaiter, ...]
    retry_at: float
    is_stuck: bool


class Beginning(NamedTuple):
    """The first thing in a file: all from which the decider itself went on. `seed` is of the chance that it drew on from there."""

    terms: Terms
    seed: int
    view: ViewSnapshot
    placer: PlacerSnapshot
    lines: tuple[WaitingLine, ...]
