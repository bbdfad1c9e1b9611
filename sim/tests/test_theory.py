"""The simulator against what queueing and caching theory say of the same systems. Tolerances are several standard errors."""

from __future__ import annotations

import heapq
import math
import random
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import pytest

from roost.sim import Simulation, deterministic, exponential, gamma, named_models, poisson, zipf
from roost.sim.traces import models_of, read_trace
from roost.sim.workload import Ask, trace_asks

pytestmark = pytest.mark.timeout(0)  # what theory says does not depend on how fast a machine is, and every run is bounded by its requests
TRACES = Path(__file__).parents[2].parent / "shared/traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason=f"no traces at {TRACES}")


def erlang_c(servers: int, load: float) -> float:
    """The probability that a request of M/M/c waits."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    share = load / servers
    return blocked / (1.0 - share + share * blocked)


def settled(values: Sequence[float]) -> Sequence[float]:
    """Without the first tenth, in which the system fills."""
    return values[len(values) // 10 :]


@pytest.mark.parametrize(("servers", "rate"), [(1, 0.5), (1, 0.8), (4, 3.2)])
def test_one_queue_with_c_slots_waits_as_erlang_c_says(servers: int, rate: float) -> None:
    run = Simulation(workers=1, slots=servers, arrivals=poisson(rate), service=exponential(1.0), seed=3).run(requests=20_000)
    expected = erlang_c(servers, rate) / (servers - rate)
    assert fmean(settled(run.waits)) == pytest.approx(expected, rel=0.15)
    assert sum(wait > 0 for wait in settled(run.waits)) / len(settled(run.waits)) == pytest.approx(erlang_c(servers, rate), rel=0.07)


@pytest.mark.slow
@pytest.mark.theory
@pytest.mark.parametrize(("servers", "rate"), [(1, 0.8), (4, 3.2), (8, 7.2)])
def test_with_many_requests_it_is_close_to_erlang_c(servers: int, rate: float) -> None:
    run = Simulation(workers=1, slots=servers, arrivals=poisson(rate), service=exponential(1.0), seed=5).run(requests=300_000)
    assert fmean(settled(run.waits)) == pytest.approx(erlang_c(servers, rate) / (servers - rate), rel=0.06)


@pytest.mark.parametrize("servers", [1, 2, 5])
@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_each_wait_is_that_of_the_recursion_over_the_same_requests(servers: int, cv: float) -> None:
    """Kiefer and Wolfowitz (1955); with one server, Lindley (1952): who comes takes the server that is free first."""
    rng, now = random.Random(f"{servers} {cv}"), 0.0
    shape = cv**-2
    asks: list[Ask] = []
    for _ in range(4_000):
        now += rng.gammavariate(shape, 1.0 / (shape * 0.9 * servers))
        asks.append(Ask(now, 0, service_s=rng.expovariate(1.0)))
    free_at, waits = [0.0] * servers, list[float]()
    for ask in asks:
        starts_at = max(ask.at_s, heapq.heappop(free_at))
        heapq.heappush(free_at, starts_at + ask.service_s)
        waits.append(starts_at - ask.at_s)
    run = Simulation(workers=1, slots=servers, trace=asks, service="trace").run()
    assert max(waits) > 1.0
    assert list(run.waits) == pytest.approx(waits, abs=1e-9)


def gi_m_1_root(rate: float, cv: float) -> float:
    """The root in (0, 1) of s = A*(mu (1 - s)) with mu = 1 and gamma gaps: A*(x) = (1 + x / (shape rate))^-shape."""
    shape, root = cv**-2, 0.5
    for _ in range(2_000):
        root = (1.0 + (1.0 - root) / (shape * rate)) ** -shape
    return root


@pytest.mark.slow
@pytest.mark.theory
@pytest.mark.parametrize("cv", [0.5, 2.0])
def test_gamma_arrivals_at_one_server_wait_as_gi_m_1_says(cv: float) -> None:
    run = Simulation(arrivals=gamma(0.7, cv=cv), service=exponential(1.0), seed=7).run(requests=25_000)
    root = gi_m_1_root(0.7, cv)
    assert fmean(settled(run.waits)) == pytest.approx(root / (1.0 - root), rel=0.15)


def power_of_d(rate: float, choices: int) -> float:
    """The mean sojourn in the limit of many servers (Mitzenmacher 2001; Vvedenskaya, Dobrushin, Karpelevich 1996)."""
    exponents: Iterator[float] = ((choices**i - choices) / (choices - 1) for i in range(1, 40))
    return math.fsum(rate**exponent for exponent in exponents if exponent < 1e4)


@pytest.mark.slow
@pytest.mark.theory
@pytest.mark.parametrize("choices", [2, 3])
def test_power_of_d_choices_meets_its_fixed_point(choices: int) -> None:
    rate = 0.8
    simulation = Simulation(workers=100, arrivals=poisson(100 * rate), service=exponential(1.0), policy=f"power-of-{choices}", seed=11)
    run = simulation.run(requests=15_000)
    assert fmean(settled(run.sojourns)) == pytest.approx(power_of_d(rate, choices), rel=0.08)


def test_one_choice_is_a_row_of_m_m_1_queues() -> None:
    run = Simulation(workers=50, arrivals=poisson(25.0), service=exponential(1.0), policy="random", seed=13).run(requests=12_000)
    assert fmean(settled(run.sojourns)) == pytest.approx(2.0, rel=0.1)


def stale(policy: str, period_s: float, *, counts_own: bool, seed: int = 17) -> float:
    simulation = Simulation(
        workers=100,
        arrivals=poisson(90.0),
        service=exponential(1.0),
        policy=policy,
        staleness_s=period_s,
        counts_own_decisions=counts_own,
        seed=seed,
    )
    return fmean(settled(simulation.run(requests=10_000).sojourns))


def stale_by_hand(choices: int, period_s: float, seed: int) -> float:
    """The same system in a dozen lines: 100 servers at 0.9, a board renewed every `period_s`; 100 choices are all of them."""
    rng, servers, now, renewed_at = random.Random(seed), 100, 0.0, period_s
    queue, board, free_at, ends, sojourns = [0] * servers, [0] * servers, [0.0] * servers, list[tuple[float, int]](), list[float]()
    for _ in range(10_000):
        now += rng.expovariate(90.0)
        while renewed_at <= now:
            while ends and ends[0][0] <= renewed_at:
                queue[heapq.heappop(ends)[1]] -= 1
            board, renewed_at = queue[:], renewed_at + period_s
        chosen = min(rng.sample(range(servers), choices), key=board.__getitem__)
        while ends and ends[0][0] <= now:
            queue[heapq.heappop(ends)[1]] -= 1
        free_at[chosen] = max(free_at[chosen], now) + rng.expovariate(1.0)
        queue[chosen] += 1
        heapq.heappush(ends, (free_at[chosen], chosen))
        sojourns.append(free_at[chosen] - now)
    return fmean(settled(sojourns))


@pytest.mark.slow
@pytest.mark.theory
@pytest.mark.parametrize(("policy", "choices"), [("least-loaded", 100), ("power-of-two", 2)])
def test_an_old_board_does_what_it_does_in_a_program_of_a_dozen_lines(policy: str, choices: int) -> None:
    seeds = (1, 2, 3)
    by_hand = fmean(stale_by_hand(choices, 5.0, seed) for seed in seeds)
    assert fmean(stale(policy, 5.0, counts_own=False, seed=seed) for seed in seeds) == pytest.approx(by_hand, rel=0.12)


@pytest.mark.slow
@pytest.mark.theory
def test_least_loaded_from_an_old_board_herds_and_two_choices_do_not() -> None:
    herding, drawing = stale("least-loaded", 5.0, counts_own=False), stale("power-of-two", 5.0, counts_own=False)
    assert herding > 2.0 * drawing
    assert stale("least-loaded", 0.0, counts_own=True) < stale("power-of-two", 0.0, counts_own=True) < drawing


def test_counting_ones_own_decisions_cures_the_herd() -> None:
    assert stale("least-loaded", 5.0, counts_own=True) < stale("least-loaded", 5.0, counts_own=False) / 3.0


def che(shares: tuple[float, ...], places: int) -> float:
    """Che's approximation: the hit rate of LRU with independent references."""
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        held = sum(1.0 - math.exp(-share * middle) for share in shares)
        low, high = (middle, high) if held < places else (low, middle)
    return sum(share * (1.0 - math.exp(-share * low)) for share in shares)


@pytest.mark.parametrize(("alpha", "places"), [(0.0, 10), (0.8, 5), (1.2, 10)])
def test_a_cache_of_k_equal_models_hits_as_che_says(alpha: float, places: int) -> None:
    popularity = zipf(50, alpha)
    simulation = Simulation(
        arrivals=poisson(1.0), service=deterministic(0.0), load=0.0, models=50, popularity=popularity, cache_models=places, seed=19
    )
    hits = simulation.run(requests=12_000).hits
    assert fmean(hits[2_000:]) == pytest.approx(che(popularity.shares, places), abs=0.015)


@needs_traces
@pytest.mark.parametrize("places", [4, 8])
def test_on_a_recorded_trace_the_cache_does_exactly_what_lru_does(places: int) -> None:
    rows = read_trace(TRACES / "lmsys_arena_vtc/arena27_trace.csv")
    names = models_of(rows)
    simulation = Simulation(models=named_models(names, 1), trace=trace_asks(rows, names), service=0.0, load=0.0, cache_models=places)
    kept: OrderedDict[str, None] = OrderedDict()
    expected = []
    for row in rows:
        expected.append(row.model in kept)
        kept[row.model] = None
        kept.move_to_end(row.model)
        if len(kept) > places:
            kept.popitem(last=False)
    assert list(simulation.run().hits) == expected
    assert len(expected) == 1_500


def test_consistent_hashing_never_loads_a_worker_above_its_bound() -> None:
    workers, held = 20, 300
    simulation = Simulation(
        workers=workers,
        slots=64,
        arrivals=deterministic(0.001),
        service=1e6,
        models=8,
        popularity=zipf(8, 1.5),
        policy="consistent-hash",
        seed=23,
    )
    run = simulation.run(requests=held, duration_s=10.0)
    loads = [0] * workers
    for number in range(held):
        loads[run.ledger.worker[number]] += 1
        assert max(loads) <= math.ceil(1.25 * (number + 1) / workers)
