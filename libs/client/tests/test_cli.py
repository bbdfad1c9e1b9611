"""The command as a script calls it: real processes against stand-ins that speak the protocol."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import pytest
from client_peers import Act, Roost, StandInCluster
from typer.testing import CliRunner

from roost.client.cli.app import build_app
from roost.cluster.errors import InvalidField, NoCapacity
from roost.v1 import coordinator_pb2

VERBS = ["up", "schedule", "generate", "state", "models", "load", "unload", "unpin", "drain", "traffic", "explain", "replay"]


def at(cluster: StandInCluster) -> tuple[str, str]:
    return ("--coordinator", cluster.scheduler.address)


async def test_schedule_prints_the_fields_of_the_wire(cluster: StandInCluster, roost: Roost) -> None:
    await cluster.add_worker("worker-1")
    done = await roost("schedule", "llama-7b", "--priority", "5", "--request-id", "r1", "--reserve", "--json", *at(cluster))
    assert (done.code, done.err) == (0, "")
    view = json.loads(done.out)
    assert view == {
        "worker_id": "worker-1",
        "action": "SERVE",
        "estimated_wait_time": 0.0,
        "reason": "worker-1 has llama-7b ready",
        "worker_address": cluster.scheduler.workers["worker-1"],
        "view_age_s": 0.0,
        "decision_id": "decision-1",
        "plane": "CENTRAL",
        "request_id": "r1",
        "policy": "weighted-score",
        "waited_for_load": False,
        "dry_run": False,
    }


async def test_schedule_is_a_dry_run_unless_told_to_reserve_and_says_which_it_was(cluster: StandInCluster, roost: Roost) -> None:
    await cluster.add_worker("worker-1")
    dry, reserved = await roost("schedule", "llama-7b", *at(cluster)), await roost("schedule", "llama-7b", "--reserve", *at(cluster))
    assert [request.dry_run for request in cluster.scheduler.requests] == [True, False]
    assert dry.out.splitlines()[-1] == "a dry run: nothing is reserved or counted (--reserve does both)"
    assert reserved.out.splitlines()[-1] == "reserved and counted as decision-2"
    assert dry.err == reserved.err == ""


async def test_schedule_says_so_where_an_older_scheduler_reserved_after_all(cluster: StandInCluster, roost: Roost) -> None:
    await cluster.add_worker("worker-1")
    cluster.scheduler.knows_dry_runs = False
    done = await roost("schedule", "llama-7b", *at(cluster))
    assert done.out.splitlines()[-1] == "reserved and counted as decision-1"
    assert "knows no dry run" in done.err


async def test_generate_prints_only_the_text(cluster: StandInCluster, roost: Roost) -> None:
    await cluster.add_worker("worker-1")
    done = await roost("generate", "llama-7b", "Say hello", "--max-tokens", "3", *at(cluster))
    assert (done.code, done.out, done.err) == (0, "Hello, world\n", "")


async def test_generate_reads_the_prompt_from_stdin_and_explains_on_stderr(cluster: StandInCluster, roost: Roost) -> None:
    worker = await cluster.add_worker("worker-1")
    done = await roost("generate", "llama-7b", "-", "--verbose", *at(cluster), stdin="Sag hallo, Jürgen".encode())
    assert (done.code, done.out) == (0, "Hello, world\n")
    assert worker.requests[0].prompt == "Sag hallo, Jürgen"
    chosen, timings = done.err.splitlines()
    assert chosen == "→ worker-1  SERVE: worker-1 has llama-7b ready"
    assert "2.0 tokens/s" in timings
    assert "load 0.500 s" in timings


async def test_generate_as_json_is_one_object(cluster: StandInCluster, roost: Roost) -> None:
    await cluster.add_worker("worker-1", Act(refusal=NoCapacity("full", 0.1)))
    await cluster.add_worker("worker-2")
    done = await roost("generate", "llama-7b", "Say hello", "--json", *at(cluster))
    view = json.loads(done.out)
    assert (done.code, view["text"], view["worker_id"], view["action"], view["cache"], view["attempts"]) == (
        0, "Hello, world", "worker-2", "SERVE", "hit", 2,
    )  # fmt: skip
    assert view["tokens"][1] == {"index": 1, "id": 101, "text": ","}
    assert view["usage"] == {"prompt_tokens": 4, "completion_tokens": 3}
    assert view["timings"] == {"queued_s": 0.25, "load_s": 0.5, "prefill_s": 0.125, "decode_s": 1.0}
    assert (view["finish_reason"], bool(view["request_id"])) == ("length", True)


async def test_generate_that_is_interrupted_says_so_and_has_printed_what_came(cluster: StandInCluster, roost: Roost) -> None:
    await cluster.add_worker("worker-1", Act(breaks_after=2))
    done = await roost("generate", "llama-7b", "Say hello", "--resume", "never", *at(cluster))
    assert (done.code, done.out) == (1, "Hello,\n")
    assert done.err == "roost: worker-1 was lost after 2 tokens: Socket closed [GENERATION_INTERRUPTED]\n"


async def test_generate_says_on_stderr_who_went_on_and_as_json_how(cluster: StandInCluster, roost: Roost) -> None:
    await cluster.add_worker("worker-1", Act(breaks_after=2))
    await cluster.add_worker("worker-2")
    shown, viewed = await asyncio.gather(*(roost("generate", "llama-7b", "Say hello", *at(cluster), *flags) for flags in ((), ("--json",))))
    assert (shown.code, shown.out) == (0, "Hello, world\n")
    assert shown.err == viewed.err == "roost: worker-1 was lost; worker-2 goes on from token 2\n"
    view = json.loads(viewed.out)
    assert (view["text"], view["resumes"], view["exactness"]) == ("Hello, world", 1, "exact")
    assert view["resumed"] == [
        {"from_worker": "worker-1", "to_worker": "worker-2", "index": 2, "exactness": "exact", "approximate_because": ""}
    ]


async def test_state_as_json_has_its_fixed_names(cluster: StandInCluster, roost: Roost) -> None:
    done = await roost("state", "--json", *at(cluster))
    view = json.loads(done.out)
    assert (done.code, view["cache_hit_rate"], view["total_requests"], view["active_workers"]) == (0, 0.75, 2**40, 1)
    assert (view["average_gpu_utilization"], view["total_queue_depth"], view["policy"], view["plane"]) == (
        0.5, 0, "weighted-score", "CENTRAL",
    )  # fmt: skip
    worker = view["workers"][0]
    assert (worker["node_id"], worker["liveness"], worker["age_s"], worker["loaded_models"]) == ("worker-1", "suspect", 1.5, ["llama-7b"])
    assert (worker["slots"], worker["busy_slots"], worker["draining"], worker["queue_depth"]) == (4, 0, False, 0)


async def test_state_and_models_are_tables_for_people(cluster: StandInCluster, roost: Roost) -> None:
    state, models = await asyncio.gather(roost("state", *at(cluster)), roost("models", *at(cluster)))
    assert (state.code, models.code) == (0, 0)
    assert "hit rate 75.0%" in state.out
    assert "suspect" in state.out
    simulated, real = (next(line for line in models.out.splitlines() if name in line) for name in ("llama-7b", "tiny"))
    assert "SIMULATED" in simulated
    assert "13.5 GB" in simulated
    assert "SIMULATED" not in real


async def test_models_as_json_has_its_fixed_names(cluster: StandInCluster, roost: Roost) -> None:
    done = await roost("models", "--json", *at(cluster))
    assert json.loads(done.out)["models"][0] == {
        "name": "llama-7b",
        "engine": "simulated",
        "size_bytes": 13_480_000_000,
        "simulated": True,
        "context_tokens": 0,
        "ready_on": ["worker-1"],
        "loading_on": [],
        "passed_over": [],
    }


async def test_an_operator_loads_unloads_and_drains(cluster: StandInCluster, roost: Roost) -> None:
    load, unload, drain = await asyncio.gather(
        roost("load", "llama-7b", "--replicas", "2", "--pin", "--json", *at(cluster)),
        roost("unload", "llama-7b", *at(cluster)),
        roost("drain", "worker-1", *at(cluster)),
    )
    assert json.loads(load.out) == {"model": "llama-7b", "outcomes": [{"worker_id": "worker-1", "elapsed_s": 1.5, "unchanged": False}]}
    assert (unload.code, unload.out) == (0, "no worker has llama-7b\n")
    assert (drain.code, drain.out) == (0, "worker-1 is draining; 3 requests to finish\n")


async def test_an_operator_unpins_and_unloads_what_is_in_use_when_it_is_free(cluster: StandInCluster, roost: Roost) -> None:
    unpin = await roost("unpin", "llama-7b", "--worker", "worker-1", *at(cluster))
    await roost("unload", "llama-7b", "--when-free", *at(cluster))
    assert unpin.code == 0
    assert "was not pinned" in unpin.out
    assert cluster.scheduler.operations == [
        coordinator_pb2.UnpinModelRequest(model="llama-7b", worker_id="worker-1"),
        coordinator_pb2.UnloadModelRequest(model="llama-7b", when_free=True),
    ]


@pytest.mark.parametrize("verb", ["schedule x", "state", "state --watch", "models", "load x", "unload x", "drain w", "traffic"])
async def test_a_dead_cluster_is_one_line_and_exit_code_3(verb: str, roost: Roost, dead_address: str) -> None:
    done = await roost(*verb.split(), "--coordinator", dead_address)
    assert (done.code, done.out) == (3, "")
    assert done.err.count("\n") == 1
    assert f"no answer from {dead_address}: Connection refused" in done.err
    assert "roost up" in done.err


async def test_generate_says_that_it_waits_for_a_scheduler_and_then_that_none_came(roost: Roost, dead_address: str) -> None:
    done = await roost("generate", "x", "y", "--timeout", "1.5", "--coordinator", dead_address)
    waits, fails = done.err.splitlines()
    assert (done.code, done.out) == (3, "")
    assert waits == f"roost: waiting for a scheduler: no answer from {dead_address}: Connection refused"
    assert fails.startswith(f"roost: no answer from {dead_address}: Connection refused. Is the cluster up?")
    as_json = await roost("generate", "x", "y", "--timeout", "0.5", "--json", "--coordinator", dead_address)
    assert (as_json.code, as_json.err.count("\n")) == (3, 1)


async def test_ctrl_c_ends_at_once_what_waits_for_a_scheduler(dead_address: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roost.client.cli", "generate", "llama-7b", "go", "--coordinator", dead_address),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    assert b"waiting for a scheduler" in await asyncio.wait_for(process.stderr.readline(), 30)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 5)
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_failures_have_their_exit_code_and_reason(cluster: StandInCluster, roost: Roost) -> None:
    unknown, invalid, none = await asyncio.gather(
        roost("schedule", "lama-7b", *at(cluster)),
        roost("schedule", "llama-7b", "--priority", "11", "--json", *at(cluster)),
        roost("schedule", "llama-7b", *at(cluster)),
    )
    assert (unknown.code, unknown.err) == (
        4, "roost: no catalogue knows a model named 'lama-7b'; did you mean llama-7b? [UNKNOWN_MODEL]\n",
    )  # fmt: skip
    assert invalid.code == 2
    assert json.loads(invalid.out)["error"] | {"message": ""} == {
        "reason": "INVALID_FIELD", "field": "priority", "exit_code": 2, "message": "",
    }  # fmt: skip
    assert (none.code, "[NO_WORKERS]" in none.err) == (5, True)
    await cluster.add_worker("worker-1", Act(refusal=InvalidField("max_tokens", "must be at most 2048 (got 9000)")))
    refused = await roost("generate", "llama-7b", "Hi", "--max-tokens", "9000", *at(cluster))
    assert (refused.code, refused.err) == (2, "roost: max_tokens: must be at most 2048 (got 9000) [INVALID_FIELD]\n")


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:9000", "127.0.0.1:99999", "127.0.0.1:", ":9000", "[::1:9000", ""])
async def test_a_bad_address_is_one_line_and_exit_code_2(address: str, roost: Roost) -> None:
    done = await roost("state", "--coordinator", address)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "coordinator: " in done.err


async def test_the_environment_names_several_targets(cluster: StandInCluster, roost: Roost, dead_address: str) -> None:
    await cluster.add_worker("worker-1")
    separators = (",", " ", ", ")
    addresses = [dead_address, cluster.scheduler.address]
    runs = await asyncio.gather(
        *(roost("schedule", "llama-7b", env={"ROOST_COORDINATOR": separator.join(addresses)}) for separator in separators)
    )
    assert [run.code for run in runs] == [0, 0, 0]


async def test_a_reader_that_goes_away_is_quiet(cluster: StandInCluster) -> None:
    await cluster.add_worker("worker-1", Act(tokens=["line\n"] * 2000))
    process = await asyncio.create_subprocess_shell(
        f"{sys.executable} -m roost.client.cli generate llama-7b go -c {cluster.scheduler.address} | head -n 1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (out, err) == (b"line\n", b"")


async def test_traffic_counts_what_became_of_its_requests(cluster: StandInCluster, roost: Roost) -> None:
    await cluster.add_worker("worker-1")
    done = await roost(
        "traffic", "--models", "llama-7b,lama-7b", "--rate", "40", "--duration", "1", "--seed", "3", "--zipf", "0", "--json", *at(cluster)
    )
    view = json.loads(done.out)
    assert done.code == 0
    assert view["sent"] == view["ok"] + view["failed"]
    assert view["ok"] > 0
    assert view["failed_by_reason"] == {"UNKNOWN_MODEL": view["failed"]}
    assert (view["hit_rate"], view["cache"]["hit"]) == (1.0, view["ok"])
    assert 0 < view["ttft_p50_s"] <= view["ttft_p95_s"]


async def test_ctrl_c_ends_a_generation_on_the_worker_too(cluster: StandInCluster) -> None:
    worker = await cluster.add_worker("worker-1", Act(hangs_after=1))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roost.client.cli", "generate", "llama-7b", "go", *at(cluster)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readexactly(5), 30) == b"Hello"
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out, err) == (130, b"\n", b"")
    await asyncio.wait_for(worker.cancelled.wait(), 5)


async def test_traffic_that_is_ended_shows_what_it_counted(cluster: StandInCluster) -> None:
    worker = await cluster.add_worker("worker-1", Act(hangs_after=1))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roost.client.cli", "traffic", "--duration", "0", "--rate", "20", "--json", *at(cluster)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await asyncio.wait_for(worker.asked.wait(), 30)
    process.send_signal(signal.SIGTERM)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    view = json.loads(out)
    assert (process.returncode, err, view["unfinished"] > 0) == (0, b"", True)


async def test_something_that_is_no_scheduler_is_one_line(cluster: StandInCluster, roost: Roost) -> None:
    worker = await cluster.add_worker("worker-1")
    done = await roost("state", "--coordinator", worker.address)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "does not serve this call" in done.err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = CliRunner().invoke(build_app(), [verb, "--help"])
    assert result.exit_code == 0
    assert "roost" in result.output


def test_the_command_shows_its_version_and_its_exit_codes() -> None:
    runner = CliRunner()
    assert runner.invoke(build_app(), ["--version"]).output == "roost 0.1.0\n"
    assert "3 the cluster was not reached" in " ".join(runner.invoke(build_app(), ["--help"]).output.split())


@pytest.mark.parametrize(
    "arguments",
    [
        "schedule",
        "nonsense",
        "schedule x --timeout nan",
        "schedule x --timeout 0",
        "load x --replicas 0",
        "load x --replicas 1 --worker w",
        "up --workers 0",
        "up --workers 3 --coordinator-port 8001",
        "up --base-worker-port 65534",
        "up --models /does/not/exist.toml",
        "traffic --models x --rate 1e9 --coordinator 127.0.0.1:1",
    ],
)
def test_wrong_usage_has_exit_code_2(arguments: str) -> None:
    result = CliRunner().invoke(build_app(), arguments.split())
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit)
