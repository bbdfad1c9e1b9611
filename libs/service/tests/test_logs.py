from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from roost.service import logs
from roost.service.log_sink import MAX_WAITING_LINES, LogSink


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def json_lines(path: Path) -> list[dict[str, object]]:
    logs.flush()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_events_and_records_of_other_libraries_are_lines_of_one_form(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.configure("worker", verbose=False, log_format="json", log_file=path)
    logs.get_logger().info("model_loaded", model="llama-7b", size_bytes=7)
    logging.getLogger("elsewhere").warning("they said %s", "hello")
    ours, theirs = json_lines(path)
    assert ours.pop("timestamp") <= theirs.pop("timestamp")  # type: ignore[operator]
    assert ours == {"event": "model_loaded", "level": "info", "service": "worker", "model": "llama-7b", "size_bytes": 7}
    assert theirs == {"event": "they said hello", "level": "warning", "service": "worker", "logger": "elsewhere"}


def test_timestamps_are_iso_in_utc(tmp_path: Path) -> None:
    logs.configure("worker", verbose=False, log_format="json", log_file=tmp_path / "log")
    logs.get_logger().info("x")
    assert str(json_lines(tmp_path / "log")[0]["timestamp"]).endswith("Z")


def test_debug_is_written_only_when_verbose(tmp_path: Path) -> None:
    for verbose, expected in ((False, 0), (True, 1)):
        path = tmp_path / f"log-{verbose}"
        logs.configure("worker", verbose=verbose, log_format="json", log_file=path)
        logs.get_logger().debug("detail")
        assert len(json_lines(path)) == expected


def test_a_file_gets_no_colours_and_a_traceback_without_local_variables(tmp_path: Path) -> None:
    logs.configure("worker", verbose=False, log_format="console", log_file=tmp_path / "log")

    def fail(prompt: str) -> None:
        raise KeyError(len(prompt))

    try:
        fail("a private " + "prompt")
    except KeyError:
        logs.get_logger().exception("it_failed")
    logs.flush()
    text = (tmp_path / "log").read_text()
    assert "it_failed" in text
    assert "KeyError: 16" in text
    assert "a private prompt" not in text
    assert "\x1b[" not in text


def test_a_value_that_cannot_be_shown_does_not_stop_the_caller(tmp_path: Path) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    logs.configure("worker", verbose=False, log_format="console", log_file=tmp_path / "log")
    logs.get_logger().info("odd", value=Broken())
    logs.flush()
    assert "could not be written: RuntimeError" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("path", ["/no/such/folder/log", "/"])
def test_a_log_that_cannot_be_opened_is_a_settings_error(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        logs.configure("worker", verbose=False, log_format="console", log_file=Path(path))
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"log_file: {path} cannot be written: ")


def test_a_full_disk_is_said_once_counted_and_the_lines_go_to_stderr() -> None:
    read_end, write_end = os.pipe()
    sink = LogSink(Path("/dev/full"), stderr_fd=write_end)
    for number in range(3):
        sink.write(f"line {number}")
    assert sink.flush()
    assert sink.write_errors == 3
    said = os.read(read_end, 10_000).decode().splitlines()
    assert said == [
        "log_file: /dev/full takes no lines: No space left on device; they go to stderr until it does",
        "line 0",
        "line 1",
        "line 2",
    ]


def test_neither_a_full_disk_nor_a_closed_stderr_stops_anything() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    sink = LogSink(Path("/dev/full"), stderr_fd=write_end)
    sink.write("lost")
    assert sink.flush()
    assert sink.write_errors == 1


def test_a_reader_that_stands_still_costs_lines_and_no_time() -> None:
    read_end, write_end = os.pipe()
    sink = LogSink(None, stderr_fd=write_end)
    for _ in range(2 * MAX_WAITING_LINES):
        sink.write("x" * 100)
    assert sink.write_errors > 0
    assert not sink.flush(0.05)
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(read_end, 1 << 20).endswith(b"last\n"), True)])
    reader.start()
    while not sink.flush(1.0):
        pass
    sink.write("last")
    reader.join(10)
    assert not reader.is_alive()


def test_the_last_lines_are_out_when_the_process_ends(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from roost.service import logs, process\n"
        "async def main(stop): logs.get_logger().info('last_words')\n"
        f"logs.configure('x', verbose=False, log_format='json', log_file=Path({str(tmp_path / 'log')!r}))\n"
        "raise SystemExit(process.run(main))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
    assert "last_words" in (tmp_path / "log").read_text()
