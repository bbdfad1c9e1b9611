"""Settings of the worker."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest

from roost.service.machine import machine_memory_bytes, model_memory_bytes
from roost.service.settings import BadSettings, command_line, parse_settings, settings_table
from roost.worker.settings import WorkerSettings


def settings(*argv: str) -> WorkerSettings:
    return parse_settings(WorkerSettings, command_line(WorkerSettings, argv, "worker"))


def test_every_flag_that_scripts_use_is_there() -> None:
    made = settings(
        *("--node-id", "w-1", "--host", "0.0.0.0", "--port", "8002", "--coordinator-host", "c", "--coordinator-port", "9001"),
        *("--memory", "300MB", "--slots", "8", "--models", "m.toml", "--models-dir", "models", "--metrics-port", "9102"),
        *("--advertise", "w-1:8002", "--verbose", "--log-file", "w.log"),
    )
    assert (made.name, made.port, made.coordinator, made.memory_budget_bytes, made.slots) == ("w-1", 8002, "c:9001", 300_000_000, 8)
    assert (made.models, made.models_dir, made.metrics_port, made.verbose) == (Path("m.toml"), Path("models"), 9102, True)
    assert made.address(8002) == "w-1:8002"


def test_the_defaults_make_sense() -> None:
    made = settings()
    assert made.name.startswith(socket.gethostname()[:10])
    assert (made.port, made.coordinator, made.queue_capacity) == (8001, "127.0.0.1:9000", 256)
    assert 0 < made.memory_budget_bytes < machine_memory_bytes()


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (("--memory", "lots"), "--memory"),
        (("--node-id", "two words"), "--node-id"),
        (("--slots", "0"), "--slots"),
        (("--port", "70000"), "--port"),
        (("--aging", "0"), "--aging"),
        (("--advertise", "bad host:1"), "--advertise"),
        (("--advertise", "bad host"), "--advertise"),
        (("--advertise", "x:99999"), "--advertise"),
        (("--advertise", "x:0"), "--advertise"),
        (("--advertise", "0.0.0.0"), "nobody can dial"),
        (("--advertise", "[::]:8001"), "nobody can dial"),
        (("--advertise", "http://x:8001"), "--advertise"),
    ],
)
def test_a_bad_setting_is_refused_by_its_flag(argv: tuple[str, ...], named: str) -> None:
    with pytest.raises(BadSettings) as refused:
        settings(*argv)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("host", "advertise", "address"),
    [
        ("127.0.0.1", "", "127.0.0.1:8005"),
        ("::1", "", "[::1]:8005"),
        ("0.0.0.0", "worker-1", "worker-1:8005"),
        ("0.0.0.0", "worker-1:7000", "worker-1:7000"),
        ("0.0.0.0", "[2001:db8::1]:7000", "[2001:db8::1]:7000"),
        ("0.0.0.0", "2001:db8::1", "[2001:db8::1]:8005"),
    ],
)
def test_clients_are_given_an_address_that_they_can_dial(host: str, advertise: str, address: str) -> None:
    assert WorkerSettings(host=host, advertise=advertise).address(8005) == address


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_worker_that_listens_everywhere_is_called_by_an_address_of_this_machine(host: str) -> None:
    address, _, port = WorkerSettings(host=host).address(8005).rpartition(":")
    ip = ipaddress.ip_address(address.strip("[]"))
    assert (ip.version, ip.is_unspecified, port) == (6 if ":" in host else 4, False, "8005")


def test_a_container_limit_counts_before_the_machines_memory(tmp_path: Path) -> None:
    limit, none = tmp_path / "memory.max", tmp_path / "max"
    limit.write_text("1000000\n")
    none.write_text("max\n")
    assert machine_memory_bytes((limit, none, tmp_path / "missing")) == 1_000_000
    assert machine_memory_bytes((none,)) > 1_000_000


def test_workers_of_one_machine_share_its_memory() -> None:
    assert 3 * model_memory_bytes(3) <= model_memory_bytes() < machine_memory_bytes()


def test_the_documented_table_is_the_same_on_every_machine() -> None:
    table = settings_table(WorkerSettings)
    assert socket.gethostname() not in table
    assert "ROOST_WORKER_MEMORY" in table
    assert "ROOST_MODELS_DIR" in table
