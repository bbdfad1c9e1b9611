"""Sidecars and workers as processes, with nobody in the middle: they start, answer, are killed, and come back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import pytest

from roost.client.client import RoostClient
from roost.client.gossip import GossipClient, MemberStatus
from roost.client.results import Plane
from roost.cluster.errors import RoostError
from roost.cluster.worker_state import Liveness

from .processes import START_S, Cluster, cluster, epoch_of, status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ENTRY = '[models.{}]\nengine = "simulated"\nsource = "published"\nsize = "1GB"\n'
MIN_SUSPICION_S = 4.0  # 4 · max(1, log10 n) probe intervals of 1 s


async def test_a_machine_that_dies_is_suspect_in_three_seconds_then_dead_and_back_with_a_new_epoch(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        for name in made.grpc:
            async with RoostClient(made.grpc[name]) as client:
                generation = await client.generate_text("sim-a", "Hello", max_tokens=3)
                assert (len(generation.tokens), generation.decisions[-1].plane) == (3, Plane.GOSSIP)
        async with GossipClient(made.grpc["worker-1"]) as asked:
            before = epoch_of(await asked.members(), "worker-3")
            await asyncio.gather(made.workers["worker-3"].kill(), made.sidecars["worker-3"].kill())
            suspected_s = await made.await_members("worker-1", status("worker-3", MemberStatus.SUSPECT))
            dead_s = suspected_s + await made.await_members("worker-1", status("worker-3", MemberStatus.DEAD))
            assert suspected_s <= 3.0
            assert MIN_SUSPICION_S - 1.0 <= dead_s <= MIN_SUSPICION_S + 3.0
            async with RoostClient(made.grpc["worker-2"]) as client:
                assert {(await client.schedule("sim-a")).worker_id for _ in range(5)} <= {"worker-1", "worker-2"}
            port, grpc_port = made.port["worker-3"], made.grpc["worker-3"].rpartition(":")[2]
            await made.start("worker-3", port=port, grpc_port=grpc_port)
            assert await made.await_members("worker-1", status("worker-3", MemberStatus.ALIVE)) <= 2.0
            assert epoch_of(await asked.members(), "worker-3") > before
        await made.start_worker("worker-3")
        await made.await_live("worker-1", "worker-3")


async def test_of_two_machines_that_die_at_once_both_are_suspect_in_three_seconds_and_then_dead(tmp_path: Path) -> None:
    async with cluster(tmp_path, 5) as made:
        dying = ("worker-4", "worker-5")
        await asyncio.gather(*(process.kill() for name in dying for process in (made.workers[name], made.sidecars[name])))
        suspected = await asyncio.gather(*(made.await_members("worker-1", status(name, MemberStatus.SUSPECT)) for name in dying))
        assert max(suspected) <= 3.0
        dead = await asyncio.gather(*(made.await_members("worker-1", status(name, MemberStatus.DEAD)) for name in dying))
        assert MIN_SUSPICION_S - 1.0 <= max(suspected) + max(dead) <= MIN_SUSPICION_S + 3.0
        async with RoostClient(made.grpc["worker-2"]) as client:
            assert {(await client.schedule("sim-a")).worker_id for _ in range(5)} <= {"worker-1", "worker-2", "worker-3"}


async def test_sighup_has_a_sidecar_read_its_catalogue_again_and_kills_nobody(tmp_path: Path) -> None:
    models = tmp_path / "of-the-sidecar.toml"
    models.write_text(ENTRY.format("only-here"))
    async with cluster(tmp_path, 2) as made:
        port, grpc_port = made.port["worker-1"], made.grpc["worker-1"].rpartition(":")[2]
        await made.sidecars["worker-1"].kill()
        await made.start("worker-1", port=port, grpc_port=grpc_port, extra=("--models", str(models)))
        sidecar = made.sidecars["worker-1"].process
        async with RoostClient(made.grpc["worker-1"]) as client:
            assert "only-here" in {model.model.name for model in await client.models()}
            models.write_text("[models.broken")
            sidecar.send_signal(signal.SIGHUP)
            await made.sidecars["worker-1"].said("catalogue_not_reloaded")
            assert "of-the-sidecar.toml line 1" in made.sidecars["worker-1"].log.read_text()
            assert "only-here" in {model.model.name for model in await client.models()}
            models.write_text(ENTRY.format("new-here"))
            sidecar.send_signal(signal.SIGHUP)
            await made.sidecars["worker-1"].said("catalogue_reloaded")
            names = {model.model.name for model in await client.models()}
            assert ("new-here" in names, "only-here" in names) == (True, False)
        assert sidecar.returncode is None


async def test_worker_and_sidecar_fail_and_come_back_independently(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as made:
        await made.workers["worker-2"].kill()
        await sees(made, "worker-1", "worker-2", Liveness.SUSPECT)
        async with RoostClient(made.grpc["worker-1"]) as client:
            assert (await client.schedule("sim-a")).worker_id == "worker-1"
        await made.start_worker("worker-2")
        await made.await_live("worker-1", "worker-2")
        await made.sidecars["worker-2"].kill()
        worker = await made.workers["worker-2"].said("sidecar_lost")
        assert worker["target"] == made.grpc["worker-2"]
        await made.start("worker-2", port=made.port["worker-2"], grpc_port=made.grpc["worker-2"].rpartition(":")[2])
        await made.await_live("worker-1", "worker-2")
        assert made.workers["worker-2"].process.returncode is None


async def roost(made: Cluster, asked: str, *words: str) -> tuple[int, str]:
    """What the command answers on the terminal, and how it ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "roost.client.cli", *words, "--coordinator", made.grpc[asked],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(START_S):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize("asked", ["worker-1", "worker-2", "worker-3"])
async def test_an_operator_loads_unloads_and_drains_any_worker_through_any_sidecar(tmp_path: Path, asked: str) -> None:
    async with cluster(tmp_path, 3) as made, RoostClient(made.grpc[asked]) as client:

        async def holders() -> list[str]:
            return [name for model in await client.models() if model.model.name == "sim-a" for name in model.ready_on]

        assert (await roost(made, asked, "load", "sim-a", "--replicas", "3"))[0] == 0
        assert await holders() == ["worker-1", "worker-2", "worker-3"]  # at once: the sidecar has seen what it had done
        code, said = await roost(made, asked, "unload", "sim-a", "--worker", "worker-2")
        assert (code, "worker-2" in said, await holders()) == (0, True, ["worker-1", "worker-3"])
        assert (await roost(made, asked, "unload", "sim-a"))[0] == 0
        assert await holders() == []
        for worker_id in made.workers:
            assert await roost(made, asked, "drain", worker_id) == (0, f"{worker_id} is draining; 0 requests to finish\n")
        code, said = await roost(made, asked, "generate", "sim-a", "Hello", "--max-tokens", "2", "--timeout", "2")
        assert code != 0, said
        for worker_id in made.workers:
            assert await roost(made, asked, "drain", worker_id, "--resume") == (0, f"{worker_id} takes requests again\n")
        assert (await roost(made, asked, "generate", "sim-a", "Hello", "--max-tokens", "2"))[0] == 0


async def test_a_worker_whose_sidecar_was_killed_is_named_and_the_others_do_what_was_asked(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made:
        async with RoostClient(made.grpc["worker-1"]) as client:
            await client.load_model("sim-a", replicas=3)
            await made.sidecars["worker-3"].kill()
            with pytest.raises(RoostError) as refused:  # the client asks at once, before anybody has noticed
                await client.unload_model("sim-a")
        assert f"worker-3 cannot be reached: its sidecar at {made.grpc['worker-3']}" in str(refused.value).replace(
            "worker-3: ", "worker-3 "
        )
        assert "(done on worker-1, worker-2)" in str(refused.value)


async def sees(made: Cluster, asked: str, worker_id: str, wanted: Liveness) -> None:
    async with asyncio.timeout(START_S), RoostClient(made.grpc[asked]) as client, contextlib.aclosing(client.watch(0.05)) as states:
        async for state in states:
            if any(worker.state.node_id == worker_id and worker.liveness is wanted for worker in state.workers):
                return


async def test_a_paused_worker_gets_no_new_work_until_it_goes_on(tmp_path: Path) -> None:
    async with cluster(tmp_path, 2) as made:
        made.workers["worker-2"].process.send_signal(signal.SIGSTOP)
        await sees(made, "worker-1", "worker-2", Liveness.SUSPECT)
        async with RoostClient(made.grpc["worker-1"]) as client:
            assert {(await client.schedule("sim-a")).worker_id for _ in range(5)} == {"worker-1"}
        await sees(made, "worker-1", "worker-2", Liveness.DEAD)
        made.workers["worker-2"].process.send_signal(signal.SIGCONT)
        await sees(made, "worker-1", "worker-2", Liveness.LIVE)


async def test_a_paused_sidecar_comes_back_by_itself_and_accuses_nobody(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    try:
        for name in ("worker-1", "worker-2", "worker-3"):
            await made.start(name)
        for name in ("worker-1", "worker-2"):
            await made.await_members("worker-3", status(name, MemberStatus.ALIVE))
        paused = made.sidecars["worker-3"]
        paused.process.send_signal(signal.SIGSTOP)
        await made.await_members("worker-1", status("worker-3", MemberStatus.DEAD))
        paused.process.send_signal(signal.SIGCONT)
        await made.await_members("worker-1", status("worker-3", MemberStatus.ALIVE), within_s=40.0)
        said = paused.log.read_text()
        assert "member_suspected" not in said
        assert "member_died" not in said
    finally:
        await made.stop()


async def test_a_signal_says_goodbye_and_ends_in_order(tmp_path: Path) -> None:
    made = Cluster(tmp_path)
    try:
        await made.start("worker-1")
        await made.start("worker-2")
        await made.await_members("worker-1", status("worker-2", MemberStatus.ALIVE))
        made.sidecars["worker-2"].process.send_signal(signal.SIGTERM)
        assert await made.await_members("worker-1", status("worker-2", MemberStatus.LEFT)) <= 3.0
        assert await asyncio.wait_for(made.sidecars["worker-2"].process.wait(), 10) == 0
        assert "Traceback" not in made.sidecars["worker-2"].log.read_text()
    finally:
        await made.stop()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--port", "70000"), "--port"),
        (("--seeds", "a:b:c"), "--seeds"),
        (("--policy", "best"), "weighted-score"),
        (("--key-file", "no-such-key"), "no-such-key"),
        (("--node-id", "two words"), "--node-id"),
    ],
)
async def test_a_bad_setting_names_itself_and_the_fix(tmp_path: Path, options: tuple[str, str], said: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "roost.gossip", "--metrics-port", "0", *options, stderr=asyncio.subprocess.PIPE
    )
    _, told = await asyncio.wait_for(process.communicate(), START_S)
    assert process.returncode == 2
    assert said in told.decode()
    assert "Traceback" not in told.decode()
