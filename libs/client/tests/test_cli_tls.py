"""The command against servers that speak TLS and ask for a certificate themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from certificates import NEEDS_OPENSSL, files_of, make_certificates
from client_peers import Roost, StandInCluster

pytestmark = NEEDS_OPENSSL


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


@pytest.fixture
async def guarded(certificates: Path) -> AsyncIterator[StandInCluster]:
    async with AsyncExitStack() as stack:
        made = StandInCluster(stack, tls=files_of(certificates, "server"))
        made.scheduler.address = await made.add_scheduler()
        await made.add_worker("worker-1")
        yield made


async def test_scheduler_and_workers_are_called_with_the_given_files(guarded: StandInCluster, certificates: Path, roost: Roost) -> None:
    flags = (
        *("--tls-authority", str(certificates / "authority.pem")),
        *("--tls-certificate", str(certificates / "client.pem"), "--tls-key", str(certificates / "client.key")),
    )
    done = await roost("generate", "llama-7b", "Say hello", *flags, "--coordinator", guarded.scheduler.address)
    assert (done.code, done.out, done.err) == (0, "Hello, world\n", "")


async def test_the_environment_may_name_the_files(guarded: StandInCluster, certificates: Path, roost: Roost) -> None:
    variables = {
        "ROOST_TLS_AUTHORITY": str(certificates / "authority.pem"),
        "ROOST_TLS_CERTIFICATE": str(certificates / "client.pem"),
        "ROOST_TLS_KEY": str(certificates / "client.key"),
        "ROOST_COORDINATOR": guarded.scheduler.address,
    }
    done = await roost("state", "--json", env=variables)
    assert (done.code, done.err) == (0, "")


async def test_a_plain_call_to_a_guarded_cluster_says_what_may_be_wrong(guarded: StandInCluster, roost: Roost) -> None:
    done = await roost("state", "--coordinator", guarded.scheduler.address)
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert "TLS on one side only" in done.err


async def test_files_that_cannot_be_used_are_one_line_and_exit_code_2(certificates: Path, roost: Roost) -> None:
    alone = await roost("state", "--tls-key", str(certificates / "client.key"))
    assert (alone.code, alone.err) == (
        2, "roost: tls: a certificate and its key belong together; give --tls-certificate and --tls-key [INVALID_FIELD]\n",
    )  # fmt: skip
    missing = await roost("state", "--tls-authority", "/no/such.pem")
    assert (missing.code, missing.err.count("\n"), "/no/such.pem cannot be read" in missing.err) == (2, 1, True)
