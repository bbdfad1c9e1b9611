"""The client's pure parts, and its channels, each by itself."""

from __future__ import annotations

import asyncio
import io
import ipaddress
import random
import signal
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import grpc
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from roost.client.channels import ChannelCache
from roost.client.cli.cluster_life import example_model
from roost.client.cli.exits import ExitCode, exit_code_of
from roost.client.cli.explaining import explained_json, story
from roost.client.cli.running import run
from roost.client.cli.screens import PlainScreen
from roost.client.cli.tables import console_for, models_table, size_text
from roost.client.errors import ClusterUnreachable, Failure
from roost.client.explaining import ExplainedDecision
from roost.client.local.outward import advertised_host
from roost.client.local.plan import ClusterOptions, Mode, plan_cluster
from roost.client.results import ClusterState, ModelSnapshot, PassedOverWorker, Plane, WorkerSnapshot
from roost.client.targets import Target, TargetOrder, parse_target, parse_targets
from roost.client.traffic import Popularity, TrafficCounts, models_that_fit, next_arrival_s
from roost.cluster.errors import CommandFailed, InvalidField, NoWorkers, RoostError, UnknownModel, UnknownRequest
from roost.cluster.worker_state import CatalogueModel, Liveness, WorkerState
from roost.service.errors import RemoteError

# --- targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dialled"),
    [("localhost:9000", "localhost:9000"), (" 10.0.0.1:80 ", "10.0.0.1:80"), ("[::1]:9000", "[::1]:9000"), ("roost_coordinator:9000",) * 2],
)
def test_an_address_is_dialled_as_written(text: str, dialled: str) -> None:
    assert str(parse_target(text)) == dialled


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_a_named_mistake(text: str) -> None:
    with suppress(InvalidField):
        target = parse_target(text)
        assert parse_target(str(target)) == target


def test_several_targets_may_come_in_one_text_and_doubles_count_once() -> None:
    assert [str(target) for target in parse_targets(["a:1,b:2", "a:1 c:3"])] == ["a:1", "b:2", "c:3"]


def test_the_target_that_answered_is_tried_first() -> None:
    order = TargetOrder([Target("a", 1), Target("b", 2), Target("c", 3)])
    order.prefer(Target("b", 2))
    assert [target.host for target in order] == ["b", "a", "c"]


# --- channels -------------------------------------------------------------------------------------


def cache_of(capacity: int, opened: list[str]) -> ChannelCache:
    def open_channel(address: str) -> grpc.aio.Channel:
        opened.append(address)
        return grpc.aio.insecure_channel(address)

    return ChannelCache(open_channel, capacity=capacity)


async def test_a_channel_is_shared_and_the_longest_unused_one_goes_first() -> None:
    opened: list[str] = []
    cache = cache_of(2, opened)
    for address in ("a:1", "b:1", "a:1", "c:1", "a:1", "b:1"):
        async with cache.lease(address):
            pass
    assert opened == ["a:1", "b:1", "c:1", "b:1"]
    await cache.close()


async def test_a_channel_in_use_is_not_closed_by_others() -> None:
    cache = cache_of(1, [])
    async with cache.lease("a:1") as first, cache.lease("b:1"):
        assert first.get_state() is grpc.ChannelConnectivity.IDLE
        assert len(cache) == 2
    assert len(cache) == 1
    await cache.close()


async def test_a_forgotten_channel_is_closed_when_its_last_user_leaves() -> None:
    opened: list[str] = []
    cache = cache_of(4, opened)
    async with cache.lease("a:1") as channel:
        cache.forget("a:1")
        async with cache.lease("a:1"):
            pass
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    assert opened == ["a:1", "a:1"]
    await cache.close()


async def test_leases_of_many_at_once_leave_no_more_than_the_capacity() -> None:
    cache = cache_of(3, [])

    async def use(number: int) -> None:
        async with cache.lease(f"host-{number % 11}:1"):
            await asyncio.sleep(0)

    await asyncio.gather(*(use(number) for number in range(100)))
    assert len(cache) == 3
    await cache.close()


# --- local cluster --------------------------------------------------------------------------------

OPTIONS = ClusterOptions(workers=2, host="127.0.0.1", coordinator_port=9000, base_worker_port=8000, metrics_port=9100)


def test_worker_i_listens_on_the_base_port_plus_i() -> None:
    plans = plan_cluster(OPTIONS)
    assert [(plan.name, [planned.port for planned in plan.ports]) for plan in plans] == [
        ("coordinator", [9000, 9100]),
        ("worker-1", [8001, 9101]),
        ("worker-2", [8002, 9102]),
    ]


def test_a_worker_is_told_where_the_coordinator_is_and_what_it_may_use() -> None:
    options = ClusterOptions(
        workers=1,
        host="0.0.0.0",
        coordinator_port=9000,
        base_worker_port=8000,
        metrics_port=None,
        memory="300MB",
        slots=2,
        models="/m.toml",
        advertised_host="here.example",
    )
    words = " ".join(plan_cluster(options)[1].arguments)
    for part in ("--node-id worker-1", "--host 0.0.0.0 --port 8001", "--coordinator-host 127.0.0.1 --coordinator-port 9000",
                 "--advertise here.example", "--memory 300MB", "--slots 2", "--models /m.toml", "--metrics-port 0"):  # fmt: skip
        assert part in words


@pytest.mark.parametrize("mode", list(Mode))
def test_the_aging_reaches_whoever_lets_requests_wait(mode: Mode) -> None:
    arguments = [" ".join(plan.arguments) for plan in plan_cluster(replace(OPTIONS, mode=mode, aging_s=2.5))]
    assert len(arguments) == (3 if mode is Mode.CENTRAL else 4)
    assert all("--aging 2.5" in each for each in arguments)
    assert not any("--aging" in " ".join(plan.arguments) for plan in plan_cluster(replace(OPTIONS, mode=mode)))


def test_in_gossip_mode_each_worker_has_a_sidecar_and_nobody_is_in_the_middle() -> None:
    options = replace(OPTIONS, mode=Mode.GOSSIP, policy="random")
    plans = plan_cluster(options)
    assert [(plan.name, [planned.port for planned in plan.ports]) for plan in plans] == [
        ("sidecar-1", [7946, 7846, 9201]),
        ("sidecar-2", [7947, 7847, 9202]),
        ("worker-1", [8001, 9101]),
        ("worker-2", [8002, 9102]),
    ]
    assert [plan.is_worker for plan in plans] == [False, False, True, True]
    assert options.targets == ("127.0.0.1:7846", "127.0.0.1:7847")
    sidecar, worker = " ".join(plans[1].arguments), " ".join(plans[3].arguments)
    for part in ("--node-id worker-2", "--seeds 127.0.0.1:7946,127.0.0.1:7947", "--policy random"):
        assert part in sidecar
    assert "--coordinator-host  --sidecar 127.0.0.1:7847" in worker


def test_each_decider_records_into_a_file_of_its_own() -> None:
    central, gossip = (plan_cluster(replace(OPTIONS, mode=mode, record_dir="/kept")) for mode in Mode)
    assert [" ".join(plan.arguments).partition("--record ")[2].split()[:1] for plan in (*central, *gossip)] == [
        *(["/kept/coordinator.jsonl"], [], []),
        *(["/kept/sidecar-1.jsonl"], ["/kept/sidecar-2.jsonl"], [], []),
    ]


def test_two_processes_never_share_a_port() -> None:
    with pytest.raises(InvalidField, match="worker-1 the port 9000, which coordinator has already"):
        plan_cluster(ClusterOptions(workers=1, host="127.0.0.1", coordinator_port=9000, base_worker_port=8999, metrics_port=None))


@pytest.mark.parametrize(
    ("host", "wanted", "advertised"),
    [("127.0.0.1", "", "127.0.0.1"), ("box.example", "", "box.example"), ("0.0.0.0", "box.example", "box.example"), ("::1", "", "::1")],
)
def test_workers_are_called_by_what_was_wanted_or_where_they_listen(host: str, wanted: str, advertised: str) -> None:
    assert advertised_host(host, wanted) == advertised


@pytest.mark.parametrize(("host", "version"), [("0.0.0.0", 4), ("::", 6)])
def test_workers_that_listen_everywhere_are_called_by_an_address_of_this_machine(host: str, version: int) -> None:
    address = ipaddress.ip_address(advertised_host(host))
    assert (address.version, address.is_unspecified) == (version, False)


def test_the_example_is_a_model_that_really_generates() -> None:
    models = [
        ModelSnapshot(CatalogueModel(name, engine="x", size_bytes=1, is_simulated=name != "real"), (), ()) for name in ("made-up", "real")
    ]
    assert example_model(replace(state_with(1), models=tuple(models))) == "real"
    assert example_model(state_with(1)) == "MODEL"


def test_ctrl_c_wakes_a_verb_whose_loop_waits_though_another_thread_took_the_signal() -> None:
    woke_by_itself: list[bool] = []

    async def verb() -> None:
        asyncio.get_running_loop().call_later(5.0, woke_by_itself.append, True)
        threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
        await asyncio.Event().wait()

    with pytest.raises(typer.Exit) as ended:
        run(verb)
    assert (ended.value.exit_code, woke_by_itself) == (ExitCode.INTERRUPTED, [])


def test_traffic_asks_for_what_some_live_worker_has_memory_for() -> None:
    models = [
        ModelSnapshot(CatalogueModel(name, engine="x", size_bytes=size, is_simulated=False), ready_on, ())
        for name, size, ready_on in (("small", 10, ()), ("large", 30, ()), ("larger", 50, ()), ("elsewhere", 0, ()), ("there", 50, ("w",)))
    ]
    workers = [
        WorkerSnapshot(WorkerState(f"w{number}", memory_capacity_bytes=capacity), liveness, 0.0, 0)
        for number, (capacity, liveness) in enumerate([(20, Liveness.LIVE), (30, Liveness.LIVE), (90, Liveness.DEAD)])
    ]
    state = replace(state_with(2), models=tuple(models), workers=tuple(workers))
    assert models_that_fit(state) == ("small", "large", "elsewhere", "there")
    assert len(models_that_fit(replace(state, workers=()))) == 5


# --- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidField("x", "y"), ExitCode.USAGE),
        (ClusterUnreachable([Failure("a:1", "b")]), ExitCode.UNREACHABLE),
        (UnknownModel("x"), ExitCode.UNKNOWN_NAME),
        (UnknownRequest("r", 1_000), ExitCode.UNKNOWN_NAME),
        (NoWorkers("x"), ExitCode.NO_CAPACITY),
        (CommandFailed("w", 5, "UNKNOWN_MODEL", "x"), ExitCode.UNKNOWN_NAME),
        (CommandFailed("w", 9, "MODEL_LOAD_FAILED", "x"), ExitCode.FAILED),
        (RemoteError(grpc.StatusCode.UNIMPLEMENTED, "x"), ExitCode.UNREACHABLE),
        (RemoteError(grpc.StatusCode.INTERNAL, "x"), ExitCode.FAILED),
    ],
)
def test_every_error_has_its_exit_code(error: RoostError, code: ExitCode) -> None:
    assert exit_code_of(error) is code


def test_popular_models_are_chosen_more_often() -> None:
    rng = random.Random(5)
    counts = Counter(Popularity(["a", "b", "c"], 1.0).choose(rng) for _ in range(6000))
    assert counts["a"] > 1.7 * counts["b"] > 2.2 * counts["c"] > 0


def test_arrivals_come_at_the_rate_that_was_asked_for() -> None:
    rng = random.Random(5)
    assert sum(next_arrival_s(20.0, rng) for _ in range(10_000)) == pytest.approx(500, rel=0.05)


def test_counts_without_requests_are_zeros() -> None:
    assert (TrafficCounts().hit_rate, TrafficCounts().first_token_at(0.95)) == (0.0, 0.0)


def state_with(requests: int) -> ClusterState:
    return ClusterState(0.0, requests, 1, 0.0, 0, (), (), 0, 0, 0, "random", Plane.CENTRAL, 1)


def test_a_plain_screen_says_only_what_changed_and_not_too_often() -> None:
    out = io.StringIO()
    screen = PlainScreen(Console(file=out, width=200))
    for at, requests in ((0.0, 1), (1.0, 2), (4.0, 2), (9.0, 2)):
        screen.show(state_with(requests), at)
    assert [line.split("·")[1].strip() for line in out.getvalue().splitlines()] == ["1 requests", "2 requests"]


@pytest.mark.parametrize(("size", "text"), [(0, "-"), (512, "512 B"), (253_113_024, "253.1 MB"), (13_480_000_000, "13.5 GB")])
def test_sizes_are_written_as_people_do(size: int, text: str) -> None:
    assert size_text(size) == text


def test_where_a_model_fails_is_shown_with_the_reason_and_the_time() -> None:
    model = CatalogueModel("llama", engine="x", size_bytes=1)
    failing = (PassedOverWorker("w1", "2 loads in a row failed (no file)", 1.5), PassedOverWorker("w2", "its engine broke", 0.0))
    told = io.StringIO()
    console_for(told).print(models_table([ModelSnapshot(model, (), (), failing), ModelSnapshot(replace(model, name="phi"), (), ())]))
    assert "FAILS ON" in told.getvalue()
    assert "w1 is asked again in 1.5 s: 2 loads in a row failed (no file)" in told.getvalue()
    assert "w2 is being tried with one request at a time: its engine broke" in told.getvalue()


def test_who_was_passed_over_for_a_request_is_told_in_its_story() -> None:
    passed_over = (PassedOverWorker("w1", "2 loads in a row failed (no file)", 1.5),)
    explained = ExplainedDecision(0.0, "r", "llama", 0, 0.0, (), None, "none is left", "NO_WORKERS", (), None, 0.0, passed_over)
    assert "Passed over: w1 is asked again in 1.5 s: 2 loads in a row failed (no file).\nRefused: none is left" in story(explained, 1, 1)
    assert explained_json(explained)["passed_over"] == [{"worker_id": "w1", "why": "2 loads in a row failed (no file)", "retry_in_s": 1.5}]
