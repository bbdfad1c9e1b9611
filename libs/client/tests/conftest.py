"""Fixtures of the client's tests; the stand-ins themselves are in support/client_peers.py."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import pytest
from client_peers import NO_ENV, Outcome, Roost, StandInCluster


@pytest.fixture
async def cluster() -> AsyncIterator[StandInCluster]:
    async with AsyncExitStack() as stack:
        made = StandInCluster(stack)
        made.scheduler.address = await made.add_scheduler()
        yield made


@pytest.fixture
def roost() -> Roost:
    async def run(*arguments: str, stdin: bytes = b"", env: Mapping[str, str] = NO_ENV) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "roost.client.cli",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", **env},
        )
        out, err = await asyncio.wait_for(process.communicate(stdin), 30)
        return Outcome(process.returncode or 0, out.decode(), err.decode())

    return run


@pytest.fixture
def dead_address() -> str:
    """An address where nobody listens."""
    return "127.0.0.1:1"
