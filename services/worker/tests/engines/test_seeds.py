"""Seeds of single tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.worker.engines.seeds import UNSEEDED, token_seed

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(0, 2**31))
def test_a_token_s_seed_is_decided_by_seed_and_index_and_is_one_that_llama_cpp_takes_as_it_is(seed: int, index: int) -> None:
    assert token_seed(seed, index) == token_seed(seed, index)
    assert 0 <= token_seed(seed, index) < UNSEEDED


@given(SEEDS)
def test_hardly_any_two_tokens_of_a_generation_are_drawn_by_the_same_seed(seed: int) -> None:
    """Of 32 bits, 1,000 draws have two alike in one generation of 8,600; that does no harm, for they choose among other tokens."""
    assert len({token_seed(seed, index) for index in range(1000)}) >= 997


def test_neighbouring_seeds_share_no_draws() -> None:
    seeds = [token_seed(seed, index) for seed in range(50) for index in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert 0.45 < sum(seed >> 31 for seed in seeds) / len(seeds) < 0.55
