"""A Docker engine where one answers, and the stack that most of these tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.containers.stack import CENTRAL, GOSSIP, Stack, run


@pytest.fixture(scope="session")
def engine() -> str:
    """The engine's version. Without an engine the test is skipped, saying so; where CI is true that is a failure."""
    answer = _engine_version()
    if answer.startswith("!"):
        reason = f"no Docker engine with Compose answers: {answer[1:]}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return answer


@pytest.fixture(scope="session")
def stack(engine: str) -> Iterator[Stack]:
    """The compose stack without Grafana: built, started, healthy. Removed with its volumes and images when the session ends."""
    yield from started(Stack(CENTRAL))


@pytest.fixture(scope="module")
def gossip_stack(engine: str) -> Iterator[Stack]:
    """The same without a coordinator. Removed with its volumes and images when the module ends."""
    yield from started(Stack(GOSSIP))


def started(stack: Stack) -> Iterator[Stack]:
    try:
        try:
            stack.up()
        except AssertionError as failure:
            failure.add_note(stack.logs())
            raise
        yield stack
    finally:
        stack.remove()


def _engine_version() -> str:
    """The server's version, or "!" and why there is none."""
    if shutil.which("docker") is None:
        return "!there is no docker command"
    engine = run("docker", "info", "--format", "{{.ServerVersion}}", deadline_s=30)
    if engine.returncode != 0:
        return "!" + (engine.stderr.strip().splitlines() or ["docker info failed"])[-1]
    compose = run("docker", "compose", "version", "--short", deadline_s=30)
    return engine.stdout.strip() if compose.returncode == 0 else "!docker compose is missing"
