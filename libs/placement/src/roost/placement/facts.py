"""What a decider hears: what happened to workers, and to itself. Values; each is heard once, in its order, at the decider's own time."""

from __future__ import annotations

from typing import NamedTuple

from roost.cluster.worker_state import CatalogueModel, Liveness, WorkerState


class Reported(NamedTuple):
    """A worker told its state, on the stream of that number, or by a call of its own."""

    state: WorkerState
    is_streamed: bool
    stream: int = 0


class Told(NamedTuple):
    """Somebody else told what a worker's state was at `written_at`, the decider's time, and what is believed of its life now.

    The state counts every request that was decided before `arrived_before`.
    """

    state: WorkerState
    liveness: Liveness
    written_at: float
    arrived_before: float


class StreamLost(NamedTuple):
    """The worker's stream of that number broke."""

    node_id: str
    epoch: int
    stream: int = 0


class StreamEnded(NamedTuple):
    """The worker itself ended its stream of that number: if it was draining it has left, else it is lost all the same."""

    node_id: str
    epoch: int
    stream: int


class Judged(NamedTuple):
    """Somebody else's judgement of a worker's life, such as a failure detector's."""

    node_id: str
    liveness: Liveness


class Forgotten(NamedTuple):
    """The worker is told of by nobody any more."""

    node_id: str


class TimePassed(NamedTuple):
    """Nothing happened up to now."""


class SilenceJudged(NamedTuple):
    """Whoever was silent too long is suspect, dead, or forgotten.

    `expected_interval_s`: after which this should have followed the one before. What is later than that by seconds is this process
    standing still, not workers' silence. None: late is not odd.
    """

    expected_interval_s: float | None = None


class Catalogued(NamedTuple):
    """The decider's own catalogue was read anew: what it knows of models that no worker has told of."""

    catalogue: tuple[CatalogueModel, ...]


class Stopping(NamedTuple):
    """The process is about to end, as `name` says: whoever waits is refused, and whoever would have to wait."""

    name: str


Fact = Reported | Told | StreamLost | StreamEnded | Judged | Forgotten | TimePassed | SilenceJudged | Catalogued | Stopping
