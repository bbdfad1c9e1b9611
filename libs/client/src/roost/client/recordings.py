"""Recordings of decisions, as files: replayed with the policy that decided, set beside another one, and explained from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost.client.errors import NotRecorded
from roost.client.explaining import ExplainedDecision, explained_from_wire
from roost.cluster.errors import RoostError
from roost.cluster.worker_state import DecisionOutcome
from roost.placement.decision import Decision
from roost.placement.failures import PassedOver
from roost.placement.recording import earlier
from roost.placement.recording.comparing import Both, compare
from roost.placement.recording.events import Beginning, Event, Origin
from roost.placement.recording.reading import BadRecording, Reader
from roost.placement.recording.replay import Verified, verify
from roost.placement.records import DecisionRecords, Seen
from roost.placement.registry import policy_factory
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms
from roost.service.scheduler.explaining import record_to_wire
from roost.v1 import scheduler_pb2

MOST_EXPLAINED: Final = 1_000  # decisions on requests of one name; the last ones are shown
_PLANES: Final = {"central": scheduler_pb2.PLANE_CENTRAL, "gossip": scheduler_pb2.PLANE_GOSSIP}


@dataclass(frozen=True, slots=True)
class ReplayedFile:
    """One file, replayed with its own policy. `note` says how it ended where it did not end as it should."""

    path: Path
    terms: Terms
    origin: Origin
    verified: Verified
    note: str


@dataclass(frozen=True, slots=True)
class ComparedFile:
    """One file, with what both policies made of its requests."""

    path: Path
    terms: Terms
    origin: Origin
    asked: list[Both]
    note: str


def files_of(path: Path) -> list[Path]:
    """The file's predecessor, if it has one, and the file. Raises BadRecording if there is no such file."""
    before = path.with_name(f"{path.name}.1")
    found = [each for each in (before, path) if each.is_file()]
    if path not in found and (path.exists() or not found):
        raise BadRecording(f"{path} is no file" if path.exists() else f"{path}: no such file")
    return found


def replay_file(path: Path, *, records: DecisionRecords | None = None) -> ReplayedFile:
    """Raises BadRecording, and InvalidField if its policy is not known here."""
    with _opened(path) as opened:
        verified = verify(opened.happened(), random.Random, records=records)
        return ReplayedFile(path, opened.terms, opened.origin, verified, opened.note)


def compare_file(path: Path, policy: str) -> ComparedFile:
    """Raises BadRecording, and InvalidField if there is no such policy."""
    policy_factory(policy)
    with _opened(path) as opened:
        asked = compare(opened.happened(), random.Random, policy)
        return ComparedFile(path, opened.terms, opened.origin, asked, opened.note)


def terms_of(path: Path) -> Terms:
    """What the file's decider went by. Raises BadRecording."""
    with _opened(path) as opened:
        next(opened.happened())
        return opened.terms


def explain_from(path: Path, request_id: str) -> tuple[list[ExplainedDecision], list[ReplayedFile]]:
    """Every decision on the request in the file and its predecessor, in order, and how well both could be replayed.

    Raises NotRecorded if there is none, and what `replay_file` raises.
    """
    explained: list[ExplainedDecision] = []
    replayed: list[ReplayedFile] = []
    for each in files_of(path):
        records = _RecordsOf(request_id)
        done = replay_file(each, records=records)
        replayed.append(done)
        plane, offset_s = _PLANES.get(done.origin.plane, scheduler_pb2.PLANE_UNSPECIFIED), done.origin.wall_offset_s
        explained += [explained_from_wire(record_to_wire(record, plane, wall_offset_s=offset_s)) for record in records.of(request_id)]
    if not explained:
        raise NotRecorded(request_id, [str(each.path) for each in replayed], sum(each.verified.decisions for each in replayed))
    return explained, replayed


class _RecordsOf(DecisionRecords):
    """Keeps those of one request."""

    def __init__(self, request_id: str) -> None:
        super().__init__(MOST_EXPLAINED)
        self._request_id = request_id
        self._decision_ids: set[str] = set()

    def decided(
        self, request: PlacementRequest, decision: Decision, seen: Seen, now: float, passed_over: tuple[PassedOver, ...] = ()
    ) -> None:
        if request.request_id == self._request_id:
            self._decision_ids.add(decision.decision_id)
            super().decided(request, decision, seen, now, passed_over)

    def refused(self, request: PlacementRequest, refusal: RoostError, now: float, passed_over: tuple[PassedOver, ...] = ()) -> None:
        if request.request_id == self._request_id:
            super().refused(request, refusal, now, passed_over)

    def settled(self, outcomes: Iterable[DecisionOutcome], now: float) -> None:
        super().settled([outcome for outcome in outcomes if outcome.decision_id in self._decision_ids], now)


class _Opened:
    """A file that is being read. `terms` and `origin` are known after its first event, `note` after its last."""

    terms: Terms
    origin: Origin

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._reader = Reader()

    @property
    def note(self) -> str:
        return self._reader.note

    def happened(self) -> Iterator[Beginning | Event | earlier.Event]:
        for each in self._reader.read(self._lines):
            if isinstance(each, Beginning):
                self.terms, self.origin = each.terms, each.origin
            yield each


@contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    """Whatever is wrong with the file names it."""
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            yield _Opened(lines)
    except BadRecording as error:
        raise BadRecording(f"{path} {error.problem}") from error
    except UnicodeDecodeError as error:
        raise BadRecording(f"{path} is not a recording of decisions: it is no text") from error
    except OSError as error:
        raise BadRecording(f"{path} cannot be read: {error.strerror or error}") from error
