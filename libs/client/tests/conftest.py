"""Fixtures of the client's tests; the stand-ins themselves are in support/client_peers.py."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable

import pytest
from client_peers import Act, Outcome, StandInCluster


@pytest.fixture
async def cluster() -> AsyncIterator[StandInCluster]:
    async with AsyncExitStack() as stack:
        made = StandInCluster(stack)
        made.scheduler.address = await made.add_scheduler()
        yield made


@pytest.fixture
def act() -> type[Act]:
    return Act


@pytest.fixture
def roost() -> Callable[..., object]:
    """Runs the real command in a process of its own."""

    async def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "roost.client.cli",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"} | (env or {}),
        )
        out, err = await asyncio.wait_for(process.communicate(stdin), 30)
        return Outcome(process.returncode or 0, out.decode(), err.decode())

    return run


@pytest.fixture
def dead_address() -> str:
    """An address where nobody listens."""
    return "127.0.0.1:1"
