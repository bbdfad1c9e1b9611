"""The worker beside this sidecar: what it last said, whether it is here, and telling both to the view and to the others.

State: its current stream and last report, when that came, and since when it is away. Invariants: at most one stream is current, the one
opened last; a worker is away while it has no stream or is silent on it; whatever the view holds of our own worker, the node has been told
too. The sidecar outlives its worker and the worker its sidecar: neither waits for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from roost.cluster.errors import InvalidField, WorkerSuperseded, WorkerUnreachable
from roost.cluster.silence import STOOD_STILL_S, SUSPECT_AFTER_S
from roost.cluster.worker_state import Liveness, WorkerState
from roost.gossip.core.publishing import Publishing
from roost.gossip.core.records import load_of
from roost.gossip.plane import GossipPlane
from roost.gossip.protocol.hot_state import Load
from roost.placement.facts import Judged, Reported
from roost.service.logs import Logger
from roost.service.operating.commands import Action, CommandResult
from roost.service.operating.streams import CommandIds, WorkerStream


class Speaker(Protocol):
    """Who spreads what we say."""

    def publish_load(self, load: Load) -> None: ...


@dataclass(frozen=True, slots=True)
class Voice:
    """How the others hear of our worker: what changes seldom by records, what changes all the time by loads."""

    publishing: Publishing
    speaker: Speaker

    def tell(self, state: WorkerState, liveness: Liveness, now: float) -> None:
        self.publishing.tell(state, liveness, now)
        self.speaker.publish_load(load_of(state, liveness))


class OwnWorker:
    """Must be used from one event loop. `dead_after_s`: seconds away after which the worker is said to be dead."""

    def __init__(
        self,
        node_id: str,
        plane: GossipPlane,
        voice: Voice,
        *,
        dead_after_s: float,
        ids: CommandIds,
        log: Logger,
    ) -> None:
        self.node_id = node_id
        self._ids = ids
        self.dead_after_s = dead_after_s
        self._plane = plane
        self._voice = voice
        self._log = log
        self._stream: WorkerStream | None = None
        self._opened = 0
        self._last: WorkerState | None = None
        self._heard_at = self._advanced_at = plane.shell.now
        self._away_since: float | None = None
        self._liveness = Liveness.DEAD

    @property
    def is_here(self) -> bool:
        """Whether it reports to us."""
        return self._liveness is Liveness.LIVE

    @property
    def is_known(self) -> bool:
        """True once a worker has connected in this life of the sidecar."""
        return self._last is not None

    def open(self, first: WorkerState) -> WorkerStream:
        """The worker's new current stream, after its first report. Raises InvalidField (another's report), WorkerSuperseded."""
        if first.node_id != self.node_id:
            raise InvalidField("node_id", f"must be {self.node_id}, the --node-id of this sidecar (got {first.node_id})")
        stream = WorkerStream(self.node_id, first.epoch, self._opened + 1, self._ids.next_id)
        self._take(first, stream)
        self._opened += 1
        if self._stream is not None:
            self._stream.end(WorkerSuperseded(self.node_id, self._stream.epoch, first.epoch))
        self._stream = stream
        self._log.info("worker_connected", worker_id=self.node_id, epoch=first.epoch, address=first.address)
        return stream

    def report(self, state: WorkerState, stream: WorkerStream) -> None:
        """A further report on that stream. Raises WorkerSuperseded if a later life has taken its place."""
        self._take(state, stream)

    def close(self, stream: WorkerStream) -> None:
        """The stream ended. If it was the current one, the worker is away."""
        stream.end(WorkerUnreachable(self.node_id, "its stream was closed"))
        if self._stream is not stream:
            return
        self._stream = None
        if self._liveness is Liveness.LIVE:
            self._miss("worker_away")

    @property
    def has_stream(self) -> bool:
        """Whether commands can be sent to it now."""
        return self._stream is not None

    async def command(self, action: Action, timeout_s: float) -> CommandResult:
        """What the worker answers. Raises NoCapacity (too many under way), WorkerUnreachable."""
        if self._stream is None:
            raise WorkerUnreachable(self.node_id, "it holds no stream to its sidecar, so commands cannot be sent to it")
        return await self._stream.command(action, timeout_s)

    def advance(self, expected_interval_s: float) -> None:
        """Lets the time that has passed take effect. Called later than expected, we stood still: what it said meanwhile lies unread."""
        now = self._plane.shell.now
        if now - self._advanced_at > expected_interval_s + STOOD_STILL_S:
            self._heard_at = now
        self._advanced_at = now
        if self._liveness is Liveness.LIVE and now - self._heard_at > SUSPECT_AFTER_S:
            self._miss("worker_silent")
        elif self._away_since is not None and now - self._away_since > self.dead_after_s:
            self._away_since = None
            self._log.warning("worker_gone", worker_id=self.node_id)
            self._judge(Liveness.DEAD)

    def _miss(self, event: str) -> None:
        self._away_since = self._plane.shell.now
        self._log.warning(event, worker_id=self.node_id)
        self._judge(Liveness.SUSPECT)

    def _take(self, state: WorkerState, stream: WorkerStream) -> None:
        if not self._plane.own(Reported(state, is_streamed=True, stream=stream.number)):
            later = self._plane.shell.decider.later_epoch(state)
            if later:
                raise WorkerSuperseded(self.node_id, state.epoch, later)
            return
        if self._liveness is not Liveness.LIVE and self._stream is stream:
            self._log.info("worker_heard_again", worker_id=self.node_id)
        self._last, self._heard_at, self._away_since, self._liveness = state, self._plane.shell.now, None, Liveness.LIVE
        self._voice.tell(state, Liveness.LIVE, self._plane.shell.now)

    def _judge(self, liveness: Liveness) -> None:
        self._liveness = liveness
        self._plane.own(Judged(self.node_id, liveness))
        if self._last is not None:
            self._voice.tell(self._last, liveness, self._plane.shell.now)

    def __repr__(self) -> str:
        return f"<OwnWorker {self.node_id} {'here' if self.is_here else 'away'}, last {self._last!r}>"
