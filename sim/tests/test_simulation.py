"""Whole runs: repeatable, complete, and true to what the services do when things fall."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.errors import InvalidField
from roost.sim import (
    Delays,
    Fault,
    Reports,
    Run,
    Simulation,
    Tokens,
    closed_loop,
    deterministic,
    equal_models,
    exponential,
    kill_coordinator,
    kill_worker,
    partition,
    poisson,
    restart_coordinator,
    restart_worker,
    zipf,
)
from roost.sim.distributions import Distribution
from roost.sim.fleet_of import speeds_of
from roost.sim.records import FAILED, SERVED, RequestRecord
from roost.sim.workload import Ask

PLANES = ("central", "gossip", "hybrid")


def busy(
    plane: str,
    *faults: Fault,
    policy: str = "weighted-score",
    seed: int = 1,
    seconds: float = 20.0,
    model: str = "auto",
    timeout_s: float | None = None,
) -> Run:
    simulation = Simulation(
        workers=6,
        slots=2,
        plane=plane,
        policy=policy,
        arrivals=poisson(12.0),
        service=exponential(0.4),
        models=10,
        popularity=zipf(10, 1.0),
        cache_models=3,
        load=0.5,
        reports=Reports(),
        delays=Delays(0.001, 0.0005, 0.0005),
        may_queue=True,
        faults=faults,
        sample_s=1.0,
        seed=seed,
        gossip_model=model,
        timeout_s=timeout_s,
    )
    return simulation.run(duration_s=seconds)


def failed_between(run: Run, begin_s: float, end_s: float) -> int:
    return sum(record.result == FAILED for record in run.record().requests if begin_s <= record.arrival_s < end_s)


DIGEST = """
import hashlib
from roost.sim import *
for plane in ("central", "gossip", "hybrid"):
    for policy in ("weighted-score", "expected-wait"):
        run = Simulation(workers=5, slots=2, plane=plane, policy=policy, arrivals=poisson(8.0), time_scale=0.02, models=12,
            popularity=zipf(12), cache_models=3, reports=Reports(), may_queue=True, sample_s=1.0,
            faults=kill_worker(2.0, 3) + restart_worker(4.0, 3) + partition(5.0, 6.5, (1, 2))).run(duration_s=8.0)
        print(hashlib.sha256(repr(run.record()).encode()).hexdigest())
"""


@pytest.mark.slow
def test_a_seed_gives_the_same_run_in_every_process() -> None:
    def told(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run([sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True).stdout

    first = told("1")
    assert len(set(first.split())) == 6
    assert told("2") == first


def test_another_seed_gives_another_run() -> None:
    def digest(seed: int) -> str:
        return hashlib.sha256(repr(busy("central", seed=seed, seconds=5.0).record()).encode()).hexdigest()

    assert digest(1) == digest(1) != digest(2)


@settings(max_examples=12, deadline=None)
@given(
    plane=st.sampled_from(PLANES),
    model=st.sampled_from(["protocol", "drawn"]),
    policy=st.sampled_from(["weighted-score", "least-loaded", "consistent-hash", "expected-wait", "power-of-3"]),
    seed=st.integers(0, 1_000),
    falls=st.lists(st.tuples(st.floats(0.5, 6.0), st.integers(0, 4)), max_size=2),
    others=st.sampled_from([(), partition(3.0, 4.0, (0, 1)), kill_coordinator(2.0) + restart_coordinator(5.0)]),
)
def test_every_request_ends_once_and_its_times_add_up(
    plane: str, model: str, policy: str, seed: int, falls: list[tuple[float, int]], others: tuple[Fault, ...]
) -> None:
    faults = [fault for at, worker in falls for fault in kill_worker(at, worker) + restart_worker(at + 2.0, worker)]
    faults += others
    simulation = Simulation(
        workers=5,
        slots=2,
        plane=plane,
        policy=policy,
        arrivals=poisson(15.0),
        service=exponential(0.3),
        models=6,
        cache_models=2,
        load=0.3,
        queue_capacity=20,
        reports=Reports(),
        may_queue=True,
        faults=faults,
        seed=seed,
        gossip_model=model,
    )
    run = simulation.run(duration_s=8.0)
    assert run.totals["open"] == 0
    for record in run.record().requests:
        if record.is_served:
            assert 0 <= record.wait_s <= record.ttft_s + 1e-9
            assert record.ttft_s <= record.sojourn_s + 1e-9
            assert record.queue_s + record.load_s <= record.wait_s + 1e-9
            assert record.action
            assert record.worker
        assert record.attempts <= 8
    for machine in simulation.machines:
        assert machine.slots.unfinished == 0 or not machine.is_up
        assert not machine.flights


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("service", [exponential(2.0), None], ids=["drawn", "by tokens"])
def test_what_runs_on_a_worker_that_falls_goes_on_elsewhere(plane: str, service: Distribution | None) -> None:
    def simulate(*faults: Fault) -> list[RequestRecord]:
        simulation = Simulation(
            workers=3,
            slots=4,
            plane=plane,
            policy="round-robin",
            arrivals=poisson(3.0),
            service=service,
            time_scale=20.0,
            models=1,
            load=0.1,
            faults=faults,
        )
        return list(simulation.run(duration_s=20.0).record().requests)

    whole, fallen = simulate(), simulate(*kill_worker(6.0, 0), *kill_worker(6.2, 1))
    assert all(record.is_served for record in fallen)
    resumed = [
        (before, after)
        for before, after in zip(whole, fallen, strict=True)
        if before.arrival_s + before.ttft_s < 6.0 < before.arrival_s + before.sojourn_s and after.attempts > before.attempts
    ]
    assert resumed
    for before, after in resumed:
        assert (after.wait_s, after.ttft_s) == (before.wait_s, before.ttft_s), "its first token was told before"
        assert after.sojourn_s > before.sojourn_s


def test_who_asks_while_the_coordinator_is_down_is_served_when_it_is_back() -> None:
    run = busy("central", *kill_coordinator(6.0), *restart_coordinator(10.0))
    down = [record for record in run.record().requests if 6.1 <= record.arrival_s < 10.0]
    assert len(down) > 20
    assert all(record.arrival_s + record.wait_s >= 10.0 for record in down)
    assert all(record.is_served for record in run.record().requests)


def test_who_has_less_time_than_the_coordinator_is_down_fails_by_then() -> None:
    run = busy("central", *kill_coordinator(6.0), *restart_coordinator(10.0), timeout_s=2.0)
    down = [record for record in run.record().requests if 6.1 <= record.arrival_s < 8.0]
    assert len(down) > 10
    assert {record.result for record in down} == {FAILED}
    assert max(record.sojourn_s for record in down) <= 2.0


def goodput(rate: float, seed: int) -> float:
    """Requests a second that had their answer within 10 s, where 16 can be served and `rate` come."""
    simulation = Simulation(
        workers=4,
        slots=2,
        models=4,
        arrivals=poisson(rate),
        service=exponential(0.5),
        reports=Reports(),
        delays=Delays(0.001, 0.0005, 0.0005),
        may_queue=True,
        timeout_s=10.0,
        seed=seed,
    )
    records = simulation.run(duration_s=60.0).record().requests
    return sum(record.is_served and record.sojourn_s <= 10.0 and record.arrival_s + record.sojourn_s <= 60.0 for record in records) / 60.0


@pytest.mark.parametrize("seed", [1, 2])
def test_an_overload_with_deadlines_serves_in_time_as_many_as_the_best_load_does(seed: int) -> None:
    peak = max(goodput(rate, seed) for rate in (14.0, 16.0, 20.0))
    assert goodput(32.0, seed) >= 0.9 * peak


def test_sidecars_serve_on_when_the_coordinator_falls() -> None:
    run = busy("hybrid", *kill_coordinator(6.0))
    assert failed_between(run, 0.0, 20.0) == 0
    assert run.record().events[0] == (6.0, "coordinator killed")


@pytest.mark.parametrize("model", ["protocol", "drawn"])
def test_a_fallen_node_is_noticed_and_costs_only_what_ran_there(model: str) -> None:
    run = busy("gossip", *kill_worker(6.0, 2), model=model)
    lost = [record for record in run.record().requests if record.result == FAILED]
    assert len(lost) <= 2  # as many as it had slots: everyone else was asked again elsewhere
    late = [record for record in run.record().requests if record.arrival_s > 12.0]
    assert all(record.worker != "worker-2" and record.attempts == 1 for record in late)
    if model == "protocol":
        noticed = [at for at, what in run.events if what == "a sidecar finds worker-2 suspected"]
        assert 6.0 < noticed[0] < 9.0


def test_a_worker_that_comes_back_is_used_again() -> None:
    for plane in PLANES:
        run = busy(plane, *kill_worker(4.0, 2), *restart_worker(8.0, 2), policy="least-loaded")
        assert any(record.worker == "worker-2" and record.arrival_s > 12.0 for record in run.record().requests), plane


def test_workers_behind_a_cut_network_get_nothing_once_that_is_known() -> None:
    run = busy("central", *partition(5.0, 15.0, (0, 1)), seconds=25.0)
    during = [record for record in run.record().requests if 9.0 <= record.arrival_s < 14.0]
    assert all(record.worker not in {"worker-0", "worker-1"} for record in during)
    after = Counter(record.worker for record in run.record().requests if record.arrival_s > 18.0)
    assert after["worker-0"] + after["worker-1"] > 0


def test_clients_in_a_closed_loop_wait_for_their_answers() -> None:
    simulation = Simulation(workers=2, slots=2, arrivals=closed_loop(3, think=deterministic(0.5)), service=1.0, policy="least-loaded")
    run = simulation.run(duration_s=30.0)
    assert max(run.waits) == 0.0
    assert len(run.waits) == 3 * 20  # a round takes 1.5 s


def test_binding_late_loads_less_where_models_outnumber_places() -> None:
    def loads(policy: str) -> float:
        simulation = Simulation(
            workers=4,
            slots=2,
            arrivals=closed_loop(32),
            service=0.02,
            load=0.5,
            models=8,
            popularity=zipf(8, 0.9),
            cache_models=2,
            policy=policy,
            reports=Reports(),
            may_queue=True,
        )
        return simulation.run(duration_s=20.0).totals["loads"]

    assert loads("expected-wait") < loads("least-loaded") / 5


def test_who_waits_in_the_decider_for_a_load_is_a_join_and_no_hit() -> None:
    trace = [Ask(at / 100, 0, service_s=0.05) for at in range(20)]
    simulation = Simulation(
        workers=2,
        models=3,
        cache_models=1,
        load=1.0,
        service="trace",
        trace=trace,
        policy="expected-wait",
        reports=Reports(),
        may_queue=True,
    )
    run = simulation.run()
    counts = Counter(record.result for record in run.record().requests)
    assert counts["hit"] == 0
    assert counts["cold_start"] + counts["join"] == 20
    statistics = simulation.plane.placer.statistics  # type: ignore[attr-defined]
    assert (statistics.hits, statistics.joins) == (0, counts["join"])


@pytest.mark.parametrize("plane", ["central", "gossip"])
def test_workers_deciders_and_clients_count_the_same_hits_joins_and_cold_starts(plane: str) -> None:
    simulation = Simulation(
        workers=4,
        slots=2,
        plane=plane,
        models=12,
        popularity=zipf(12, 0.7),
        cache_models=2,
        load=0.5,
        arrivals=poisson(30.0),
        service=exponential(0.1),
        policy="expected-wait",
        may_queue=True,
        reports=Reports(),
        seed=3,
    )
    clients = Counter(request.result for request in simulation.run(requests=1_500).record().requests)
    workers: Counter[str] = Counter()
    for machine in simulation.machines:
        workers.update({result.value: count for result, count in machine.outcomes.lookups.items()})
    assert workers == clients
    assert set(workers) == {"hit", "join", "cold_start"}
    if plane == "central":
        told = simulation.plane.placer.statistics  # type: ignore[attr-defined]
        assert (told.hits, told.joins, told.cold_starts) == (clients["hit"], clients["join"], clients["cold_start"])


def test_a_load_that_a_worker_began_before_it_fell_is_nothing_to_its_next_life() -> None:
    simulation = Simulation(
        models=2,
        cache_models=1,
        load=5.0,
        service=0.1,
        trace=[Ask(0.5, 0), Ask(3.0, 1)],
        faults=(*kill_worker(2.0, 0), *restart_worker(2.5, 0)),
        max_attempts=1,
    )
    run = simulation.run()
    assert [request.result for request in run.record().requests] == ["failed", "cold_start"]
    assert run.totals["loads"] == 1


def test_a_generation_alone_takes_what_the_engine_says() -> None:
    model = equal_models(1, slots=4, size_bytes=16_060_000_000)
    speed = speeds_of(model, 1.0)["model-0"]
    run = Simulation(slots=4, models=model, trace=[Ask(0.0, 0, 100, 50)]).run()
    assert run.ttfts[0] == pytest.approx(speed.prefill_s(100, 1) + speed.decode_s(1))
    assert run.sojourns[0] == pytest.approx(speed.prefill_s(100, 1) + 50 * speed.decode_s(1))


def test_generations_of_one_model_slow_each_other_down_while_they_run_together() -> None:
    model = equal_models(1, slots=2, size_bytes=16_060_000_000)
    speed = speeds_of(model, 1.0)["model-0"]
    run = Simulation(slots=2, models=model, trace=[Ask(0.0, 0, 100, 50), Ask(0.0, 0, 100, 50)]).run()
    first_ends = speed.prefill_s(100, 1) + 50 * speed.decode_s(2)
    left = 50 - (first_ends - speed.prefill_s(100, 2)) / speed.decode_s(2)
    assert run.sojourns == pytest.approx([first_ends, first_ends + left * speed.decode_s(1)])


def test_a_trace_may_say_itself_how_long_each_request_runs() -> None:
    run = Simulation(service="trace", trace=[Ask(0.0, 0, service_s=2.0), Ask(1.0, 0, service_s=0.5)]).run()
    assert list(run.sojourns) == [2.0, 1.5]


def test_a_load_is_waited_for_and_the_next_request_joins_it() -> None:
    trace = [Ask(0.0, 0, service_s=1.0), Ask(1.0, 0, service_s=1.0), Ask(5.0, 0, service_s=1.0)]
    simulation = Simulation(slots=2, models=2, cache_models=1, load=3.0, service=1.0, trace=trace)
    records = simulation.run().record().requests
    assert [record.result for record in records] == ["cold_start", "join", "hit"]
    assert [record.load_s for record in records] == [3.0, 2.0, 0.0]
    assert [record.action for record in records] == ["COLD_START", "COLD_START", "SERVE"]


def test_drawn_delays_behave_like_the_protocol() -> None:
    protocol, drawn = (busy("gossip", seconds=40.0, model=model) for model in ("protocol", "drawn"))
    assert drawn.hit_rate == pytest.approx(protocol.hit_rate, abs=0.05)
    assert all(record.result in SERVED for record in drawn.record().requests)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give either arrivals or a trace"),
        ({"arrivals": poisson(1.0), "workers": 0}, "workers must be a whole number, 1-20000 .got 0"),
        ({"arrivals": poisson(1.0), "workers": 20_001}, "workers must be a whole number, 1-20000 .got 20001"),
        ({"arrivals": poisson(1.0), "slots": 1.5}, "slots must be a whole number, 1 or more .got 1.5"),
        ({"arrivals": poisson(1.0), "max_attempts": 0}, "max_attempts must be a whole number, 1 or more"),
        ({"arrivals": poisson(1.0), "timeout_s": 0.0}, "timeout_s must be more than 0"),
        ({"arrivals": poisson(1.0), "sample_s": float("nan")}, "sample_s must be 0 or more"),
        ({"arrivals": poisson(1.0), "first_token_share": 2.0}, "first_token_share must be 0-1 .got 2.0"),
        ({"arrivals": poisson(1.0), "service": -1.0}, "service must be 0 or more .got -1.0"),
        ({"arrivals": poisson(1.0), "service": "long"}, "service must be a distribution or a number of seconds .got 'long'"),
        ({"arrivals": poisson(1.0), "load": float("inf")}, "load must be 0 or more"),
        ({"arrivals": poisson(1.0), "gossip_model": "x"}, "gossip_model must be one of auto, protocol, drawn"),
        ({"arrivals": poisson(1.0), "memory_bytes": -5}, "memory_bytes must be more than 0"),
        ({"arrivals": 3.0}, "arrivals must be poisson"),
        ({"arrivals": poisson(1.0), "reports": True}, "reports must be Reports"),
        ({"arrivals": poisson(1.0), "delays": 0.1}, "delays must be Delays"),
        ({"arrivals": poisson(1.0), "tokens": 100}, "tokens must be Tokens"),
        ({"arrivals": poisson(1.0), "popularity": [0.5, 0.5]}, "popularity must be Popularity"),
        ({"arrivals": poisson(1.0), "plane": "anarchy"}, "plane must be one of central, gossip, hybrid"),
        ({"arrivals": poisson(1.0), "policy": "best"}, "'best' is not one of expected-wait"),
        ({"arrivals": poisson(1.0), "models": 3, "cache_models": 1, "warm": True}, "warm workers need memory for every model"),
        ({"arrivals": poisson(1.0), "staleness_s": 1.0, "reports": Reports()}, "give either staleness_s"),
        ({"arrivals": poisson(1.0), "faults": kill_worker(1.0, 1)}, "faults name worker 1 and there are 1"),
        ({"arrivals": poisson(1.0), "models": 3, "popularity": zipf(2)}, "popularity is of 2 models and there are 3"),
    ],
)
def test_what_cannot_be_simulated_is_named(given: dict[str, object], told: str) -> None:
    with pytest.raises((ValueError, InvalidField), match=told):
        Simulation(**{"service": 1.0, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trace", "told"),
    [
        ([Ask(1.0, 0), Ask(0.5, 0)], "request 1 comes at 0.5 s, after one at 1.0 s"),
        ([Ask(-1.0, 0)], "request 0 comes at -1.0 s"),
        ([Ask(float("nan"), 0)], "request 0 comes at nan s"),
        ([Ask(0.0, 0), Ask(0.0, 2)], "request 1 asks for model 2 and there are 2, numbered from 0"),
    ],
)
def test_a_trace_that_cannot_be_is_named_by_its_request(trace: list[Ask], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Simulation(trace=trace, models=2, service=1.0).run()


def test_a_simulation_runs_once_and_for_some_time() -> None:
    simulation = Simulation(arrivals=poisson(1.0), service=0.1)
    for bad in ({"requests": 0}, {"duration_s": -1.0}, {"duration_s": float("inf")}):
        with pytest.raises(ValueError, match="must be"):
            simulation.run(**bad)
    with pytest.raises(ValueError, match="only a trace ends by itself"):
        simulation.run()
    assert len(simulation.run(requests=3).waits) == 3
    with pytest.raises(ValueError, match="runs once"):
        simulation.run(requests=3)


def test_lengths_of_prompts_and_answers_decide_how_long_it_takes() -> None:
    def mean(output: float) -> float:
        tokens = Tokens(prompt=deterministic(10.0), output=deterministic(output))
        sojourns = Simulation(slots=8, arrivals=poisson(1.0), tokens=tokens, models=1).run(requests=50).sojourns
        return sum(sojourns) / len(sojourns)

    assert mean(200.0) > 1.9 * mean(100.0)


def test_who_comes_for_a_ready_model_passes_those_that_wait_for_a_load() -> None:
    asks = [Ask(0.0, 0, service_s=1.0), Ask(12.0, 1, service_s=1.0), Ask(13.0, 0, service_s=1.0)]
    run = Simulation(slots=2, models=2, cache_models=2, warm=False, load=10.0, trace=asks, service="trace").run()
    assert list(run.waits) == pytest.approx([10.0, 10.0, 0.0])
