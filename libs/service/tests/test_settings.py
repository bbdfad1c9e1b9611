from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import SettingsConfigDict

from roost.cluster.sizes import parse_size
from roost.service.settings import BadSettings, ServiceSettings, command_line, parse_settings, read_settings, settings_table


class LaundrySettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="ROOST_LAUNDRY_")

    port: int = Field(9300, ge=0, le=65535, description="gRPC port; 0 for any free one")
    memory_bytes: int = Field(1_000_000, ge=1, description="bytes of memory", json_schema_extra={"flag": "--memory"})
    dead_after_s: float = Field(10.0, gt=0, le=3600, description="seconds of silence; 100% arbitrary")
    policy: Literal["first", "second"] = Field("first", description="how it chooses")
    names: tuple[str, ...] = Field((), description="names to know")
    is_warm: bool = Field(True, description="start warm")

    @field_validator("memory_bytes", mode="before")
    @classmethod
    def _read_size(cls, written: object) -> object:
        return parse_size(written, "memory_bytes") if isinstance(written, str) else written


def test_flags_win_over_the_environment_and_that_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_LAUNDRY_PORT", "9400")
    monkeypatch.setenv("ROOST_LAUNDRY_DEAD_AFTER_S", "3")
    settings = parse_settings(LaundrySettings, command_line(LaundrySettings, ["--dead-after-s", "5"], "laundry"))
    assert (settings.port, settings.dead_after_s, settings.policy) == (9400, 5.0, "first")


def test_every_kind_of_field_has_its_flag() -> None:
    flags = [
        "--port=0",
        "--memory",
        "300MB",
        "--names=a",
        "--names=b",
        "--verbose",
        "--no-is-warm",
        "--log-file",
        "x.log",
        "--policy=second",
    ]
    settings = parse_settings(LaundrySettings, command_line(LaundrySettings, flags, "laundry"))
    assert (settings.memory_bytes, settings.names, settings.verbose, settings.is_warm) == (300_000_000, ("a", "b"), True, False)
    assert (settings.log_file, settings.policy) == (Path("x.log"), "second")


def test_only_flags_that_were_given_are_overrides() -> None:
    assert command_line(LaundrySettings, [], "laundry") == {}


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        LaundrySettings().port = 1  # type: ignore[misc] # what the test is about


def test_each_bad_field_is_one_line_that_names_the_field_its_flag_and_its_variable() -> None:
    with pytest.raises(BadSettings) as caught:
        parse_settings(LaundrySettings, {"port": "70000", "dead_after_s": "-1", "host": ""})
    assert caught.value.problems == (
        "host (--host, ROOST_LAUNDRY_HOST): string should have at least 1 character (got '')",
        "port (--port, ROOST_LAUNDRY_PORT): input should be less than or equal to 65535 (got '70000')",
        "dead_after_s (--dead-after-s, ROOST_LAUNDRY_DEAD_AFTER_S): input should be greater than 0 (got '-1')",
    )


def test_a_bad_size_is_named_with_its_flag() -> None:
    with pytest.raises(BadSettings, match=r"^memory_bytes \(--memory, ROOST_LAUNDRY_MEMORY_BYTES\): 'lots' is not a size"):
        parse_settings(LaundrySettings, {"memory_bytes": "lots"})


def test_a_bad_list_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_LAUNDRY_NAMES", "[unclosed")
    with pytest.raises(BadSettings, match="names"):
        parse_settings(LaundrySettings, {})


def test_bad_settings_exit_2_with_a_line_each_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(LaundrySettings, {"port": "many"})
    printed = capsys.readouterr()
    assert caught.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("port (--port, ROOST_LAUNDRY_PORT): input should be a valid integer")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("flags", [["--no-such-flag"], ["--policy=third"], ["--port"]])
def test_wrong_usage_exits_2(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line(LaundrySettings, flags, "laundry")
    assert caught.value.code == 2
    assert "usage: laundry" in capsys.readouterr().err


def test_help_says_default_variable_and_meaning_of_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line(LaundrySettings, ["--help"], "laundry", "Washes.")
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Washes." in shown
    assert "--port PORT gRPC port; 0 for any free one (default 9300, environment ROOST_LAUNDRY_PORT)" in shown
    assert "seconds of silence; 100% arbitrary" in shown
    assert all(f"ROOST_LAUNDRY_{name.upper()}" in shown for name in LaundrySettings.model_fields)


def test_the_documented_table_has_a_row_for_each_field() -> None:
    rows = settings_table(LaundrySettings).splitlines()
    assert len(rows) == 2 + len(LaundrySettings.model_fields)
    assert "| `--port` | `ROOST_LAUNDRY_PORT` | 9300 | 0 or more, 65535 or less | gRPC port; 0 for any free one |" in rows
    assert "| `--policy` | `ROOST_LAUNDRY_POLICY` | first | first, second | how it chooses |" in rows
    assert "| `--memory` | `ROOST_LAUNDRY_MEMORY_BYTES` | 1000000 | 1 or more | bytes of memory |" in rows


def test_tls_is_on_as_soon_as_a_file_is_named() -> None:
    assert parse_settings(LaundrySettings, {}).tls is None
    tls = parse_settings(LaundrySettings, {"tls_certificate": "c.pem", "tls_key": "k.pem"}).tls
    assert tls is not None
    assert (tls.certificate, tls.key, tls.authority) == (Path("c.pem"), Path("k.pem"), None)
