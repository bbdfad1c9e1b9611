"""The recorder: what is taken is written, in files that each can be replayed; whatever keeps it from writing stops it and nothing else."""

from __future__ import annotations

import itertools
import os
import random
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CatalogueModel, ModelStatus, Phase, WorkerState
from roost.placement.decider import Decider
from roost.placement.facts import Reported
from roost.placement.recording.reading import Reader
from roost.placement.recording.replay import Verified, verify
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms
from roost.service.logs import get_logger
from roost.service.scheduler.recorder import Recorder, RecordingTap, recording
from roost.service.scheduler.shell import DeciderShell
from roost.service.startup import CannotStart

CATALOGUE = tuple(CatalogueModel(f"sim-{number}", "simulated", 1) for number in range(5))


class Told:
    """What the recorder tells of itself. `is_full` is set when a whole file's worth was written."""

    def __init__(self, full_at: int = 0) -> None:
        self.is_on = False
        self.bytes = 0
        self.is_full = threading.Event()
        self._full_at = full_at

    def changed(self, is_on: bool, more_bytes: int) -> None:  # noqa: FBT001
        self.is_on = is_on
        self.bytes += more_bytes
        if self._full_at and self.bytes > self._full_at:
            self.is_full.set()


class Cluster:
    """A recorded decider of three workers."""

    def __init__(self, tap: RecordingTap) -> None:
        self.decider = Decider(ClusterView(catalogue=CATALOGUE), Terms("d"), rng=random.Random())
        tap.begin(self.decider)
        self._now = 0.0
        self._shell = DeciderShell(self.decider, clock=lambda: self._now, taps=[tap])
        self._sequences = itertools.count(1)

    def go_on(self, steps: int) -> None:
        for _ in range(steps):
            number = next(self._sequences)
            models = {"sim-0": ModelStatus("sim-0", Phase.READY, 1, in_flight=number % 3)}
            state = WorkerState(f"worker-{number % 3}", models, epoch=1, sequence=number, address="127.0.0.1:8001")
            self._now = number / 100
            self._shell.hear(Reported(state, is_streamed=True))
            self._shell.ask(PlacementRequest(f"r{number}", f"sim-{number % 5}"))


def verified(path: Path) -> Verified:
    with path.open() as lines:
        return verify(Reader().read(lines), random.Random)


def tap_of(recorder: Recorder) -> RecordingTap:
    return RecordingTap(recorder, plane="central", wall_offset_s=0.0)


def test_everything_taken_is_written_by_the_end(tmp_path: Path) -> None:
    told = Told()
    with recording(tmp_path / "file", 10**9, plane="gossip", wall_offset_s=1.0, changed=told.changed, log=get_logger()) as tap:
        assert tap is not None
        Cluster(tap).go_on(500)
    assert verified(tmp_path / "file") == Verified(500, 500)
    assert told.bytes == (tmp_path / "file").stat().st_size
    assert not told.is_on
    assert (tmp_path / "file").read_text().endswith('{"op": "end", "why": ""}\n')


def test_without_a_path_there_is_nothing_to_record_with() -> None:
    with recording(None, 1, plane="central", wall_offset_s=0.0, changed=Told().changed, log=get_logger()) as tap:
        assert tap is None


def test_a_full_file_becomes_the_one_before_and_both_replay(tmp_path: Path) -> None:
    told = Told(full_at=20_000)
    recorder = Recorder(tmp_path / "file", 20_000, changed=told.changed, log=get_logger())
    cluster = Cluster(tap_of(recorder))
    with structlog.testing.capture_logs() as logged:
        while "recording_rotated" not in [line["event"] for line in logged]:
            cluster.go_on(20)
            told.is_full.wait(0.02)
        cluster.go_on(20)
        recorder.close()
    first, second = verified(tmp_path / "file.1"), verified(tmp_path / "file")
    assert first.difference is None
    assert second.difference is None
    assert first.decisions >= 50
    assert second.decisions >= 20
    assert (tmp_path / "file.1").stat().st_size >= 20_000


def test_a_recording_that_is_there_at_the_start_becomes_the_one_before(tmp_path: Path) -> None:
    for _ in range(2):
        recorder = Recorder(tmp_path / "file", 10**9, changed=Told().changed, log=get_logger())
        Cluster(tap_of(recorder)).go_on(7)
        recorder.close()
    assert verified(tmp_path / "file.1") == verified(tmp_path / "file") == Verified(7, 7)


def test_more_than_can_wait_ends_the_recording_with_one_line_and_deciding_goes_on(tmp_path: Path) -> None:
    told = Told()
    with structlog.testing.capture_logs() as logged:
        recorder = Recorder(tmp_path / "file", 10**9, changed=told.changed, log=get_logger(), max_waiting=20)
        cluster = Cluster(tap_of(recorder))
        while not recorder.has_stopped:
            cluster.go_on(20)
        cluster.go_on(10)
        recorder.close()
    assert [line["event"] for line in logged] == ["recording_stopped"]
    assert "20 events waited" in logged[0]["why"]
    assert not told.is_on
    reader = Reader()
    with (tmp_path / "file").open() as lines:
        result = verify(reader.read(lines), random.Random)
    assert result.difference is None
    assert "recording stopped" in reader.note


def full_disk(path: Path) -> None:
    """In a process of its own: files may have 30 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
    told = Told()
    recorder = Recorder(path, 10**9, changed=told.changed, log=get_logger())
    cluster = Cluster(tap_of(recorder))
    while not recorder.has_stopped:
        cluster.go_on(10)
    cluster.go_on(100)
    recorder.close()
    sys.stdout.write(f"decided {cluster.decider.placer.statistics.total_requests}, on: {told.is_on}\n")


def test_a_full_disk_ends_the_recording_with_one_line_and_deciding_goes_on(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, __file__, str(tmp_path / "file")], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.count("recording_stopped") + ran.stderr.count("recording_stopped") == 1
    assert "File too large" in ran.stdout + ran.stderr
    assert "on: False" in ran.stdout
    assert verified(tmp_path / "file").difference is None
    assert verified(tmp_path / "file").decisions > 20


def test_a_file_that_is_no_recording_is_left_alone(tmp_path: Path) -> None:
    for name in ("file", "file.1"):
        folder = tmp_path / f"beside-{name}"
        folder.mkdir()
        (folder / name).write_text("the only copy of my thesis\n")
        with pytest.raises(CannotStart, match=r"record \(--record\): .* is no recording; name another file"):
            Recorder(folder / "file", 10**9, changed=Told().changed, log=get_logger())
        assert (folder / name).read_text() == "the only copy of my thesis\n"
        assert len(list(folder.iterdir())) == 1


def test_two_deciders_do_not_share_a_file(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "file", 10**9, changed=Told().changed, log=get_logger())
    Cluster(tap_of(recorder))
    with pytest.raises(CannotStart, match="another process records to"):
        Recorder(tmp_path / "file", 10**9, changed=Told().changed, log=get_logger())
    recorder.close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="nowhere/file cannot be written: No such file or directory"):
        Recorder(tmp_path / "nowhere" / "file", 10**9, changed=Told().changed, log=get_logger())


if __name__ == "__main__":
    os.environ["COLUMNS"] = "200"
    full_disk(Path(sys.argv[1]))
