"""Requests through slots, models and an engine that does what the test says."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from steered_engine import TOO_LONG, catalogue_of
from worker_world import DEADLINE_S, generate, world

from roost.cluster.errors import (
    EngineFailed,
    InvalidField,
    ModelInUse,
    ModelLoadFailed,
    ModelTooLarge,
    NoCapacity,
    RoostError,
    UnknownModel,
    WorkerDraining,
)
from roost.cluster.worker_state import CacheResult, Failing
from roost.worker.engines.interface import FinishReason
from roost.worker.generated import Generated
from roost.worker.generation import Started


async def test_a_request_is_accepted_then_gets_numbered_tokens_then_its_completion() -> None:
    async with world() as here:
        generation = generate(here.runtime, "a", "one two three", max_tokens=3, request_id="mine")
        completed = await generation.completed()
        assert (generation.accepted.request_id, generation.accepted.worker_id) == ("mine", "worker-1")
        assert [(token.index, token.id, token.text) for token in generation.tokens] == [(0, 100, " 0"), (1, 101, " 1"), (2, 102, " 2")]
        assert (completed.reason, completed.prompt_tokens, completed.completion_tokens) == (FinishReason.LENGTH, 3, 3)


async def test_the_first_request_is_a_cold_start_and_the_second_a_hit() -> None:
    async with world() as here:
        first, second = [await generate(here.runtime).completed() for _ in range(2)]
        assert (first.cache_result, second.cache_result) == (CacheResult.COLD_START, CacheResult.HIT)
        assert first.times.load_s > 0
        assert second.times.load_s == 0
        assert here.count("roost_cache_lookups_total", model="a", result="hit") == 1


async def test_who_waited_elsewhere_until_a_model_was_loaded_has_joined_and_hit_nothing() -> None:
    async with world() as here:
        await generate(here.runtime).completed()
        late, hit = [
            await generate(here.runtime, waited_for_load=waited, decision_id=f"d-{waited}").completed() for waited in (True, False)
        ]
        assert (late.cache_result, hit.cache_result) == (CacheResult.JOIN, CacheResult.HIT)
        assert here.count("roost_cache_lookups_total", model="a", result="join") == 1
        told = {outcome.decision_id: outcome.cache_result for outcome in here.runtime.core.outcomes.unsent()}
        assert told == {"d-True": CacheResult.JOIN, "d-False": CacheResult.HIT}
        absent = await generate(here.runtime, "b", waited_for_load=True).completed()
        assert absent.cache_result is CacheResult.COLD_START, "it has left again meanwhile"


async def test_a_hundred_requests_for_an_absent_model_cause_one_load() -> None:
    async with world(queue_capacity=100, slots=4) as here:
        here.engine.hold_loads()
        generations = [generate(here.runtime, max_tokens=1) for _ in range(100)]
        found = [(await each.until_accepted()).cache_result for each in generations]
        here.engine.let_loads()
        for each in generations:
            await each.completed()
        assert here.engine.loads["a"] == 1
        assert found == [CacheResult.COLD_START] + [CacheResult.JOIN] * 99


async def test_a_load_starts_at_arrival_before_a_slot_is_free() -> None:
    async with world(slots=1) as here:
        here.engine.hold_tokens()
        running = generate(here.runtime, "a")
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        waiting = generate(here.runtime, "b")
        await here.until(lambda: here.runtime.core.cache.find("b") is CacheResult.HIT)
        assert here.runtime.core.slots.queue_depth == 1
        here.engine.let_tokens()
        assert (await waiting.completed()).times.queued_s > 0
        await running.completed()


async def test_a_request_whose_model_is_loading_blocks_no_other() -> None:
    async with world(slots=1) as here:
        await generate(here.runtime, "b").completed()
        here.engine.hold_loads()
        cold = generate(here.runtime, "a", priority=9)
        await cold.until_accepted()
        assert (await generate(here.runtime, "b").completed()).cache_result is CacheResult.HIT
        here.engine.let_loads()
        await cold.completed()


async def test_no_more_run_on_a_model_than_it_can_run_at_once() -> None:
    async with world(slots=4, max_parallel=2) as here:
        here.engine.hold_tokens()
        generations = [generate(here.runtime, max_tokens=2) for _ in range(6)]
        await here.until(lambda: here.runtime.core.slots.unfinished == 6 and here.runtime.core.slots.busy == 2)
        here.engine.let_tokens()
        for each in generations:
            await each.completed()
        assert here.engine.most_running == 2


@pytest.mark.parametrize("tokens_before", [0, 2])
async def test_cancelling_a_running_request_frees_its_slot(tokens_before: int) -> None:
    async with world(slots=1) as here:
        here.engine.hold_tokens()
        generation = generate(here.runtime, max_tokens=100)
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        for _ in range(tokens_before):
            here.engine.let_one_token()
        await generation.until(lambda: len(generation.tokens) == tokens_before and here.engine.models["a"].running == 1)
        await generation.cancel()
        assert (here.runtime.core.slots.busy, here.engine.models["a"].running) == (0, 0)
        here.engine.let_tokens()
        await generate(here.runtime).completed()
        assert here.count("roost_requests_total", model="a", result="cancelled") == 1


async def test_cancelling_a_queued_request_frees_its_place() -> None:
    async with world(slots=1) as here:
        here.engine.hold_tokens()
        running, queued = generate(here.runtime), generate(here.runtime)
        await queued.until_accepted()
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        await queued.cancel()
        assert here.runtime.core.slots.unfinished == 1
        here.engine.let_tokens()
        await running.completed()


async def test_cancelling_while_the_model_loads_leaves_the_load_to_the_next_one() -> None:
    async with world() as here:
        here.engine.hold_loads()
        first = generate(here.runtime)
        await first.until_accepted()
        await first.cancel()
        assert here.runtime.core.slots.unfinished == 0
        second = generate(here.runtime)
        assert (await second.until_accepted()).cache_result is CacheResult.JOIN
        here.engine.let_loads()
        await second.completed()
        assert here.engine.loads["a"] == 1


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async with world(slots=1, queue_capacity=1) as here:
        here.engine.hold_tokens()
        running = generate(here.runtime)
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        queued = generate(here.runtime)
        await queued.until_accepted()
        with pytest.raises(NoCapacity, match="the queue is full") as refused:
            await generate(here.runtime, "b").completed()
        assert refused.value.retry_after_s == pytest.approx(1.0)
        assert here.engine.loads["b"] == 0
        here.engine.let_tokens()
        await running.completed()
        await queued.completed()


async def test_models_take_turns_in_memory_and_it_is_never_exceeded() -> None:
    async with world(catalogue_of(a=80, b=80, c=80), slots=2) as here:
        generations = [generate(here.runtime, name, max_tokens=2) for name in "abcabcbcaacb"]
        for each in generations:
            await each.completed()
        assert here.engine.peak_mb <= 100
        assert here.runtime.core.evictions == sum(here.engine.loads.values()) - 1


async def test_a_load_that_everyone_gave_up_is_stopped_when_its_memory_is_needed() -> None:
    async with world(catalogue_of(a=80, b=80)) as here:
        here.engine.hold_loads()
        given_up = generate(here.runtime, "a")
        await given_up.until_accepted()
        await here.engine.until_loading("a")
        await given_up.cancel()
        wanted = generate(here.runtime, "b")
        await here.engine.until_loading("b")
        assert here.engine.cancelled_loads == ["a"]
        here.engine.let_loads()
        await wanted.completed()
        assert here.engine.peak_mb == 80


async def test_a_model_in_constant_demand_does_not_starve_another() -> None:
    async with world(catalogue_of(hot=80, rare=80), slots=2) as here:
        stop = asyncio.Event()

        async def demand() -> None:
            while not stop.is_set():
                await generate(here.runtime, "hot", max_tokens=2, priority=9).completed()

        demands = [asyncio.ensure_future(demand()) for _ in range(3)]
        await here.until(lambda: here.runtime.core.slots.busy > 0)
        rare = await generate(here.runtime, "rare", max_tokens=2).completed()
        stop.set()
        await asyncio.gather(*demands)
        assert rare.completion_tokens == 2
        assert here.engine.peak_mb == 80


async def test_a_model_that_is_too_large_is_refused_with_both_numbers() -> None:
    async with world(catalogue_of(big=101)) as here:
        with pytest.raises(ModelTooLarge, match="101000000 bytes and the memory budget is 100000000 bytes"):
            await generate(here.runtime, "big").completed()


async def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    async with world(catalogue_of(llama=10)) as here:
        with pytest.raises(UnknownModel, match="did you mean llama"):
            await generate(here.runtime, "lama").completed()
        assert here.count("roost_requests_total", model="other", result="refused") == 1


async def test_too_many_tokens_are_refused_naming_the_limit() -> None:
    async with world() as here:
        with pytest.raises(InvalidField, match="max_tokens: must be at most 1000"):
            await generate(here.runtime, max_tokens=1001).completed()
        assert here.engine.loads["a"] == 0


async def test_a_prompt_that_the_engine_refuses_hurts_nobody_else() -> None:
    async with world() as here:
        with pytest.raises(InvalidField, match="prompt"):
            await generate(here.runtime, prompt=TOO_LONG).completed()
        await generate(here.runtime).completed()
        assert (here.engine.loads["a"], here.runtime.core.slots.unfinished) == (1, 0)
        assert here.count("roost_requests_total", model="a", result="refused") == 1


async def test_a_failed_load_fails_all_who_wait_and_the_next_request_tries_again() -> None:
    async with world() as here:
        here.engine.hold_loads()
        here.engine.failing["a"] = "a.gguf is missing"
        waiting = [generate(here.runtime) for _ in range(3)]
        for each in waiting:
            await each.until_accepted()
        here.engine.let_loads()
        for each in waiting:
            with pytest.raises(ModelLoadFailed, match=r"a\.gguf is missing"):
                await each.completed()
        assert (here.runtime.core.cache.used_bytes, here.runtime.core.slots.unfinished) == (0, 0)
        assert here.runtime.core.failures.told == {"a": Failing(1, 0, "a.gguf is missing")}
        del here.engine.failing["a"]
        await generate(here.runtime).completed()
        assert here.runtime.core.failures.told == {}


async def test_a_load_that_never_ends_fails_in_time() -> None:
    async with world(load_timeout_s=0.02) as here:
        here.engine.hold_loads()
        with pytest.raises(ModelLoadFailed, match=r"longer than 0\.02 s"):
            await generate(here.runtime).completed()
        assert here.engine.memory_mb == 0


async def test_an_engine_that_lost_its_model_fails_that_call_and_the_next_one_reloads() -> None:
    async with world() as here:
        here.engine.breaks_at, here.engine.breaks_with = 1, EngineFailed("a", "its process is gone", is_model_lost=True)
        broken = generate(here.runtime)
        with pytest.raises(EngineFailed, match="its process is gone"):
            await broken.completed()
        assert len(broken.tokens) == 1
        here.engine.breaks_at = None
        assert (await generate(here.runtime).completed()).cache_result is CacheResult.COLD_START
        assert here.engine.loads["a"] == 2


async def test_one_failed_call_leaves_the_model_and_the_others_on_it_alone() -> None:
    async with world() as here:
        here.engine.hold_tokens()
        other = generate(here.runtime, max_tokens=3)
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        here.engine.let_one_token()
        await other.until(lambda: len(other.tokens) == 1)
        here.engine.breaks_at = 0
        failing = generate(here.runtime)
        await here.until(lambda: here.runtime.core.slots.busy == 2)
        here.engine.let_tokens()
        with pytest.raises(EngineFailed, match="told to break"):
            await failing.completed()
        assert [each.lost_calls for each in here.runtime.core.failures.told.values()] == [1]
        assert (await other.completed()).completion_tokens == 3
        here.engine.breaks_at = None
        assert (await generate(here.runtime).completed()).cache_result is CacheResult.HIT
        assert here.engine.loads["a"] == 1
        assert here.runtime.core.failures.told == {}


async def test_a_crashed_model_takes_only_its_own_running_requests_with_it() -> None:
    async with world(slots=2, max_parallel=1) as here:
        here.engine.hold_tokens()
        doomed, other = generate(here.runtime, "a"), generate(here.runtime, "b")
        await here.until(lambda: here.runtime.core.slots.busy == 2)
        queued = generate(here.runtime, "a")
        await queued.until_accepted()
        here.engine.models["a"].crash()
        with pytest.raises(EngineFailed):
            await doomed.completed()
        here.engine.let_tokens()
        await other.completed()
        assert (await queued.completed()).completion_tokens == 4
        assert here.engine.loads == {"a": 2, "b": 1}


async def test_an_idle_model_that_crashes_is_dropped() -> None:
    async with world() as here:
        await generate(here.runtime).completed()
        here.engine.models["a"].crash()
        await here.until(lambda: here.runtime.core.cache.used_bytes == 0)
        assert here.runtime.core.cache.find("a") is CacheResult.COLD_START


async def test_loading_and_unloading_by_hand() -> None:
    async with world() as here:
        cold = await here.runtime.load("a")
        again = await here.runtime.load("a")
        assert (cold.cache_result, again.cache_result, again.elapsed_s) == (CacheResult.COLD_START, CacheResult.HIT, 0.0)
        assert await here.runtime.unload("a")
        assert not await here.runtime.unload("a")
        assert here.engine.memory_mb == 0


async def test_a_pinned_model_is_not_evicted() -> None:
    async with world() as here:
        await here.runtime.load("a", is_pinned=True)
        await here.runtime.load("b")
        await here.runtime.load("c")
        assert here.runtime.core.cache.find("a") is CacheResult.HIT
        assert here.runtime.core.cache.find("b") is CacheResult.COLD_START


async def test_a_model_in_use_is_not_unloaded() -> None:
    async with world() as here:
        here.engine.hold_tokens()
        generation = generate(here.runtime)
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        with pytest.raises(ModelInUse):
            await here.runtime.unload("a")
        here.engine.let_tokens()
        await generation.completed()


async def test_a_load_that_was_ordered_by_mistake_is_stopped_by_an_unload() -> None:
    async with world() as here:
        here.engine.hold_loads()
        order = asyncio.create_task(here.runtime.load("a", is_pinned=True))
        await here.engine.until_loading("a")
        assert await here.runtime.unload("a")
        with pytest.raises(ModelLoadFailed, match="unloaded while it was being loaded"):
            await order
        assert here.engine.cancelled_loads == ["a"]
        assert (here.engine.memory_mb, here.runtime.core.cache.used_bytes) == (0, 0)
        here.engine.let_loads()
        await here.runtime.load("a")


async def test_a_load_that_waits_for_memory_is_stopped_as_well() -> None:
    async with world(budget_mb=40) as here:
        here.engine.hold_loads()
        orders = [asyncio.create_task(here.runtime.load(name)) for name in "ab"]
        await here.engine.until_loading("a")
        assert not await here.runtime.unload("b")  # nothing of it was in memory
        assert await here.runtime.unload("a")
        for order in orders:
            with pytest.raises(ModelLoadFailed, match="unloaded"):
                await order
        assert here.engine.loads == {"a": 1}


async def test_a_load_that_a_request_waits_for_is_not_stopped() -> None:
    async with world() as here:
        here.engine.hold_loads()
        order = asyncio.create_task(here.runtime.load("a"))
        await here.engine.until_loading("a")
        generation = generate(here.runtime)
        await generation.until_accepted()
        with pytest.raises(ModelInUse):
            await here.runtime.unload("a")
        here.engine.let_loads()
        await order
        await generation.completed()


async def test_an_unload_when_free_waits_for_the_last_request_and_then_puts_the_model_out() -> None:
    async with world(slots=2) as here:
        here.engine.hold_tokens()
        running = [generate(here.runtime), generate(here.runtime)]
        await here.until(lambda: here.runtime.core.slots.busy == 2)
        unloading = asyncio.create_task(here.runtime.unload("a", when_free=True))
        await running[0].cancel()
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        assert not unloading.done()
        here.engine.let_tokens()
        await running[1].completed()
        assert await unloading
        assert here.engine.memory_mb == 0


async def test_an_unload_when_free_that_nobody_waits_for_any_more_puts_nothing_out() -> None:
    async with world() as here:
        here.engine.hold_tokens()
        generation = generate(here.runtime)
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await here.runtime.unload("a", when_free=True)
        here.engine.let_tokens()
        await generation.completed()
        assert here.runtime.core.cache.find("a") is CacheResult.HIT


async def test_an_unpinned_model_stays_until_room_is_needed() -> None:
    async with world(budget_mb=40) as here:
        await here.runtime.load("a", is_pinned=True)
        with pytest.raises(NoCapacity, match="pinned"):
            await here.runtime.load("b")
        assert here.runtime.unpin("a")
        assert not here.runtime.unpin("a")
        assert here.runtime.core.cache.find("a") is CacheResult.HIT
        await here.runtime.load("b")
        assert here.runtime.core.cache.find("a") is CacheResult.COLD_START
        with pytest.raises(UnknownModel):
            here.runtime.unpin("no-such-model")


async def test_a_model_that_is_unpinned_while_it_loads_is_not_pinned_when_it_is_ready() -> None:
    async with world(budget_mb=40) as here:
        here.engine.hold_loads()
        order = asyncio.create_task(here.runtime.load("a", is_pinned=True))
        await here.engine.until_loading("a")
        assert here.runtime.unpin("a")
        here.engine.let_loads()
        await order
        await here.runtime.load("b")


async def test_a_load_that_was_called_off_stops_and_frees_its_memory() -> None:
    async with world() as here:
        here.engine.hold_loads()
        order = asyncio.create_task(here.runtime.load("a"))
        await here.engine.until_loading("a")
        order.cancel()
        await asyncio.wait({order})
        here.runtime.call_off("a")
        await here.until(lambda: here.runtime.core.cache.used_bytes == 0)
        assert (here.engine.cancelled_loads, here.engine.memory_mb) == (["a"], 0)


async def test_a_load_that_others_wait_for_goes_on_when_one_calls_it_off() -> None:
    async with world() as here:
        here.engine.hold_loads()
        orders = [asyncio.create_task(here.runtime.load("a")) for _ in range(2)]
        await here.engine.until_loading("a")
        orders[0].cancel()
        await asyncio.wait({orders[0]})
        here.runtime.call_off("a")
        here.engine.let_loads()
        await orders[1]
        assert here.engine.cancelled_loads == []


async def test_a_draining_worker_finishes_what_it_has_and_takes_nothing_new() -> None:
    async with world(slots=1) as here:
        here.engine.hold_tokens()
        running, queued = generate(here.runtime), generate(here.runtime)
        await queued.until_accepted()
        assert here.runtime.drain(resume=False) == 2
        with pytest.raises(WorkerDraining):
            await generate(here.runtime).completed()
        with pytest.raises(WorkerDraining):
            await here.runtime.load("b")
        here.engine.let_tokens()
        await running.completed()
        await queued.completed()
        async with asyncio.timeout(DEADLINE_S):
            await here.runtime.wait_idle()
        here.runtime.drain(resume=True)
        await generate(here.runtime).completed()


async def test_measured_times_are_learned() -> None:
    async with world() as here:
        await generate(here.runtime).completed()
        timing = here.runtime.core.times.timings["a"]
        assert timing.service_time_s > 0
        assert timing.load_time_s > 0


async def test_only_completed_requests_are_learned_as_service_times() -> None:
    async with world() as here:
        with pytest.raises(InvalidField):
            await generate(here.runtime, prompt=TOO_LONG).completed()
        here.engine.breaks_at = 0
        with pytest.raises(EngineFailed):
            await generate(here.runtime).completed()
        here.engine.breaks_at = None
        here.engine.hold_tokens()
        cancelled = generate(here.runtime)
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        await cancelled.cancel()
        assert here.runtime.core.times.timings["a"].service_time_s == 0
        here.engine.let_tokens()
        await generate(here.runtime).completed()
        assert here.runtime.core.times.timings["a"].service_time_s > 0


async def test_what_a_busy_engine_turns_away_is_refused_not_failed() -> None:
    async with world() as here:
        here.engine.breaks_at, here.engine.breaks_with = 0, NoCapacity("a: the server answered 429", 1.0)
        with pytest.raises(NoCapacity):
            await generate(here.runtime).completed()
        assert here.count("roost_requests_total", model="a", result="refused") == 1


async def test_a_refused_request_is_told_to_its_decider() -> None:
    async with world(catalogue_of(a=40, big=101), slots=1, queue_capacity=1) as here:
        here.engine.hold_tokens()
        running = generate(here.runtime, decision_id="d-running")
        await here.until(lambda: here.runtime.core.slots.busy == 1)
        queued = generate(here.runtime, decision_id="d-queued")
        await queued.until_accepted()
        refusals: list[tuple[str, dict[str, object]]] = [
            ("full", {}),
            ("unknown", {"model": "nobody"}),
            ("large", {"model": "big"}),
            ("bad", {"max_tokens": 1001}),
        ]
        for name, fields in refusals:
            with pytest.raises(RoostError):
                await generate(here.runtime, decision_id=name, **fields).completed()  # type: ignore[arg-type]
        with pytest.raises(NoCapacity):
            await generate(here.runtime).completed()
        here.runtime.drain(resume=False)
        with pytest.raises(WorkerDraining):
            await generate(here.runtime, decision_id="draining").completed()
        told = {outcome.decision_id: outcome.cache_result for outcome in here.runtime.core.outcomes.unsent()}
        refused = dict.fromkeys(["full", "unknown", "large", "bad", "draining"], CacheResult.REFUSED)
        assert told == {"d-running": CacheResult.COLD_START, "d-queued": told["d-queued"], **refused}
        assert told["d-queued"] is not CacheResult.REFUSED
        assert sum(here.runtime.core.outcomes.lookups.values()) == 2
        here.engine.let_tokens()
        await running.completed()
        await queued.completed()


async def test_leaving_closes_every_model() -> None:
    async with world() as here:
        await here.runtime.load("a")
        await here.runtime.load("b")
    assert all(model.is_closed for model in here.engine.models.values())
    assert here.engine.memory_mb == 0


async def test_an_accepted_request_hears_what_its_text_depends_on() -> None:
    async with world() as here:
        cold = generate(here.runtime, temperature=0.8)
        await cold.completed()
        assert cold.accepted.fingerprint == "", "the model was not loaded yet"
        assert [event for event in cold.events if isinstance(event, Started)] == [Started("engine=steered;model=a", "")]
        warm = generate(here.runtime, temperature=0.8)
        await warm.completed()
        assert warm.accepted.fingerprint == "engine=steered;model=a"
        assert not [event for event in warm.events if isinstance(event, Started)]
        drawn = [here.engine.asked[at].seed for at in (0, 1)]
        assert [cold.accepted.seed, warm.accepted.seed] == drawn
        assert None not in drawn
        assert drawn[0] != drawn[1]


@pytest.mark.parametrize(("temperature", "seed"), [(0.8, 7), (0.0, 7), (0.0, None)])
async def test_a_seed_that_was_given_holds_and_greedy_text_needs_none(temperature: float, seed: int | None) -> None:
    async with world() as here:
        generation = generate(here.runtime, temperature=temperature, seed=seed)
        await generation.completed()
        assert generation.accepted.seed == here.engine.asked[0].seed == seed


async def test_a_generation_goes_on_after_what_was_told_and_counts_as_a_whole() -> None:
    async with world() as here:
        await generate(here.runtime).completed()
        told = Generated(ids=(100, 101), fingerprint="engine=steered;model=a", resumes=1)
        generation = generate(here.runtime, max_tokens=4, generated=told)
        completed = await generation.completed()
        assert generation.accepted.resumed_from == 2
        assert [(token.index, token.id) for token in generation.tokens] == [(2, 102), (3, 103)]
        assert [event for event in generation.events if isinstance(event, Started)] == [Started("engine=steered;model=a", "")]
        assert (completed.prompt_tokens, completed.completion_tokens) == (3, 4)
        assert (completed.resumes, completed.approximate_because) == (2, "")
        assert here.count("roost_tokens_generated_total", model="a") == 4 + 2
        assert here.count("roost_resumes_total", model="a", exactness="exact") == 1


async def test_what_was_approximate_once_stays_so_for_the_first_reason() -> None:
    async with world() as here:
        elsewhere = Generated(ids=(100,), fingerprint="engine=other;model=a", resumes=0)
        completed = await generate(here.runtime, generated=elsewhere).completed()
        assert completed.approximate_because == "another engine began: engine was other and is steered"
        again = replace(elsewhere, fingerprint="engine=steered;model=a", approximate_because="the reason before", resumes=1)
        completed = await generate(here.runtime, generated=again).completed()
        assert (completed.approximate_because, completed.resumes) == ("the reason before", 2)


async def test_a_generation_of_which_nothing_was_told_is_not_resumed() -> None:
    async with world() as here:
        completed = await generate(here.runtime, generated=Generated(resumes=3)).completed()
        assert (completed.resumes, completed.approximate_because) == (3, "")
