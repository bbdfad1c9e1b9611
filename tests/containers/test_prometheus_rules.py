"""Prometheus's own tool on our configuration, rules and their tests."""

from __future__ import annotations

import re

import pytest

from tests.containers.stack import WORKSPACE, succeed

PROMETHEUS = WORKSPACE / "deploy/prometheus"
IMAGE = "prom/prometheus:v3.5.3"
MOUNT = f"{PROMETHEUS}:/etc/prometheus:ro"


def promtool(*arguments: str) -> str:
    return succeed("docker", "run", "--rm", "--network", "none", "--volume", MOUNT, "--entrypoint", "promtool", IMAGE, *arguments)


def text_of(pattern: str) -> str:
    return "\n".join(path.read_text() for path in sorted(PROMETHEUS.glob(pattern)))


@pytest.mark.containers
def test_the_configuration_and_the_rules_are_valid(engine: str) -> None:
    configurations = sorted(f"/etc/prometheus/{path.name}" for path in PROMETHEUS.glob("*.yml"))
    assert len(configurations) == 2
    promtool("check", "config", "--lint=all", "--lint-fatal", *configurations)


@pytest.mark.containers
def test_the_rules_pass_their_tests(engine: str) -> None:
    tests = sorted(f"/etc/prometheus/tests/{path.name}" for path in (PROMETHEUS / "tests").glob("*.test.yml"))
    assert promtool("test", "rules", *tests).count("SUCCESS") == len(tests)


def test_the_tool_is_the_version_that_the_stack_runs() -> None:
    assert f"image: {IMAGE}" in (WORKSPACE / "docker-compose.yml").read_text()


def test_every_alert_is_tested_firing() -> None:
    declared = set(re.findall(r"- alert: (\w+)", text_of("rules/*.rules.yml")))
    cases = text_of("tests/*.test.yml")
    fired = set(re.findall(r"alertname: (\w+)\s+exp_alerts:", cases))
    assert fired == declared


def test_every_recording_rule_is_tested_with_a_value() -> None:
    declared = set(re.findall(r"- record: (\S+)", (PROMETHEUS / "rules/recording.rules.yml").read_text()))
    cases = (PROMETHEUS / "tests/recording.test.yml").read_text()
    valued = set(re.findall(r"- expr: (\S+)\s+eval_time: \S+\s+exp_samples:", cases))
    assert valued == declared
