"""Simulated models: published speeds, made-up text that says so."""

from __future__ import annotations

import asyncio
import selectors

import pytest
from engine_subjects import events_of, simulated_spec, text_in, tokens_in
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.catalogue import default_catalogue_text, parse_catalogue
from roost.cluster.model_spec import PROFILES, TIERS
from roost.worker.engines.interface import PromptRead, Sampling
from roost.worker.engines.published import BANDWIDTH_BY_TIER, TIMES_BY_PROFILE, SimulatedSpeed, estimated_tokens
from roost.worker.engines.simulated import SimulatedEngine, SimulatedText, speed_of

LLAMA_8B = TIMES_BY_PROFILE["8b-h100"]


def speed(**changes: float) -> SimulatedSpeed:
    values = {"size_bytes": 16_060_000_000, "bandwidth_bytes_per_s": 3.6e9, "max_parallel": 5, "time_scale": 1.0, **changes}
    return SimulatedSpeed(times=LLAMA_8B, **values)  # type: ignore[arg-type]  # the dataclass checks its fields


def test_every_tier_and_profile_that_a_catalogue_may_name_has_its_figures() -> None:
    assert set(BANDWIDTH_BY_TIER) == set(TIERS)
    assert set(TIMES_BY_PROFILE) == set(PROFILES)


def test_a_load_takes_size_over_bandwidth() -> None:
    assert speed().load_s() == pytest.approx(4.46, abs=0.01)  # 4.507 s were measured


def test_a_prompt_costs_an_overhead_and_a_time_for_each_token() -> None:
    assert speed().prefill_s(1000, running=1) == pytest.approx(0.030 + 0.250)


def test_token_times_grow_with_the_bytes_of_the_weights() -> None:
    assert speed(size_bytes=32_120_000_000).decode_s(running=1) == pytest.approx(0.024)


@pytest.mark.parametrize(("running", "factor"), [(1, 1.0), (3, 1.5), (5, 2.0), (9, 2.0)])
def test_running_generations_slow_each_other_down_to_the_published_factor(running: int, factor: float) -> None:
    assert speed().decode_s(running) == pytest.approx(0.012 * factor)


def test_the_time_scale_multiplies_everything() -> None:
    fast = speed(time_scale=0.01)
    assert fast.load_s() == pytest.approx(speed().load_s() / 100)
    assert fast.prefill_s(10, 1) == pytest.approx(speed().prefill_s(10, 1) / 100)
    assert fast.decode_s(1) == pytest.approx(speed().decode_s(1) / 100)


def test_the_scale_of_an_entry_and_of_the_engine_multiply() -> None:
    assert speed_of(simulated_spec(options={"time_scale": 0.5}), 0.1).time_scale == pytest.approx(0.05)


def test_every_simulated_entry_that_ships_has_a_speed() -> None:
    shipped = [spec for spec in parse_catalogue(default_catalogue_text(), "models.toml") if spec.is_simulated]
    loads = {spec.name: speed_of(spec, 1.0).load_s() for spec in shipped}
    assert loads["llama-7b"] == pytest.approx(13.48 / 3.6)
    assert all(seconds > 0 for seconds in loads.values())


@given(st.text(min_size=1))
def test_a_text_has_about_a_token_for_four_bytes(text: str) -> None:
    encoded = len(text.encode("utf-8", "replace"))
    assert encoded / 4 <= estimated_tokens(text) <= encoded / 4 + 1


def test_a_load_is_expected_to_take_what_it_will_take() -> None:
    assert SimulatedEngine(time_scale=0.1).expected_load_s(simulated_spec(options={"tier": "sata-ssd"})) == pytest.approx(0.2)


async def test_the_text_says_that_it_is_simulated() -> None:
    model = await SimulatedEngine(time_scale=0.0).load(simulated_spec())
    text = text_in(await events_of(model, "Tell me the truth", Sampling(max_tokens=8)))
    assert text.startswith(" [simulated] ")
    assert text.removeprefix(" [simulated] ").replace(" ", "").isalpha()


def tokens_of(prompt: str, count: int, *, model: str = "m", seed: int = 0, **sampling: float) -> list[str]:
    text = SimulatedText(model, seed, prompt, Sampling(max_tokens=count, **sampling))  # type: ignore[arg-type]  # as above
    return [text.next_token().text for _ in range(count)]


def test_model_seed_prompt_and_sampling_decide_the_text() -> None:
    base = tokens_of("prompt", 6)
    assert base == tokens_of("prompt", 6)
    assert base == tokens_of("prompt", 6, top_p=0.5)  # without effect when greedy
    others = [
        tokens_of("prompt2", 6),
        tokens_of("prompt", 6, model="n"),
        tokens_of("prompt", 6, seed=1),
        tokens_of("prompt", 6, temperature=1.0),
        tokens_of("prompt", 6, temperature=1.0, top_p=0.5),
    ]
    assert len({tuple(text) for text in [base, *others]}) == 6


@given(st.text(max_size=20), st.integers(min_value=1, max_value=9))
def test_prompt_and_text_so_far_continue_the_text_exactly(prompt: str, cut: int) -> None:
    whole = tokens_of(prompt, 10)
    assert tokens_of(prompt + "".join(whole[:cut]), 10 - cut) == whole[cut:]


async def test_the_context_ends_the_text() -> None:
    model = await SimulatedEngine(time_scale=0.0).load(simulated_spec(context_tokens=32))
    events = await events_of(model, "x" * 80, Sampling(max_tokens=1000))
    assert events[0] == PromptRead(20)
    assert len(tokens_in(events)) == 12


LATE_S = 0.002  # every sleep ends so much later than it should, as on a busy machine


class LateSelector(selectors.SelectSelector):
    """Passes virtual time instead of waiting, and always a little too much of it."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self.now += timeout + LATE_S
        return super().select(0)


class LateLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = LateSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def test_sleeps_that_end_late_do_not_add_up_over_a_generation() -> None:
    pace = speed_of(simulated_spec(), 1.0)
    loop = LateLoop()

    async def seconds_of(tokens: int) -> float:
        model = await SimulatedEngine().load(simulated_spec())
        began = loop.time()
        await events_of(model, "x" * 80, Sampling(max_tokens=tokens))
        return loop.time() - began

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        taken_s = runner.run(seconds_of(100))
    published_s = pace.prefill_s(20, 1) + 100 * pace.decode_s(1)
    assert published_s <= taken_s + 1e-9
    assert taken_s == pytest.approx(published_s, abs=2 * LATE_S)
