"""What a model counts with in the memory budget."""

from __future__ import annotations

import contextlib
import re
from contextlib import aclosing
from pathlib import Path

import pytest
import tiny_gguf
from engine_subjects import llamacpp_engine, llamacpp_spec, needs_cyllama
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.catalogue import Catalogue, LiveCatalogue, ModelSpec, parse_catalogue
from roost.worker.engines.gguf_header import Array, BadGguf, Header, parts_of, read_header, read_shape
from roost.worker.engines.interface import Sampling
from roost.worker.engines.llama_memory import Needs, cache_bytes, needs_of
from roost.worker.memory_plan import MemoryPlan, fitted, needs_in
from roost.worker.model_store import ModelStore

MB = 1_000_000
NEEDS = Needs(weights=253 * MB, context=300 * MB, process=95 * MB)


def spec(**changes: object) -> ModelSpec:
    return llamacpp_spec(Path("/m.gguf"), **{"size_bytes": 0, "max_parallel": 8, **changes})


def shape(**values: Array | int) -> Header:
    return Header({"general.architecture": "x", **{f"x.{key.replace('__', '.')}": value for key, value in values.items()}})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


def test_weights_contexts_and_process_count() -> None:
    planned = fitted(spec(max_parallel=2), NEEDS, 10_000 * MB)
    assert (planned.size_bytes, planned.memory_bytes, planned.max_parallel) == (253 * MB, (253 + 2 * 300 + 95) * MB, 2)


@pytest.mark.parametrize(
    ("budget_mb", "parallel", "memory_mb"),
    [(10_000, 8, 2748), (2748, 8, 2748), (2747, 7, 2448), (948, 2, 948), (700, 1, 648), (600, 1, 600), (553, 1, 553), (552, 1, 648)],
)
def test_as_many_contexts_are_made_as_the_budget_holds(budget_mb: int, parallel: int, memory_mb: int) -> None:
    planned = fitted(spec(), NEEDS, budget_mb * MB)
    assert (planned.max_parallel, planned.memory_bytes) == (parallel, memory_mb * MB)


@given(st.integers(1, 2000), st.integers(1, 400), st.integers(0, 200), st.integers(1, 64), st.integers(1, 3000))
def test_a_model_counts_with_all_it_needs_or_has_the_budget_for_itself(
    weights: int, context: int, process: int, parallel: int, budget: int
) -> None:
    needs = Needs(weights, context, process)
    planned = fitted(spec(max_parallel=parallel), needs, budget)
    assert 1 <= planned.max_parallel <= parallel
    assert planned.memory_bytes in (needs.total(planned.max_parallel), budget)
    assert (planned.memory_bytes <= budget) == (weights + context <= budget)


def test_a_size_that_the_catalogue_states_counts_where_it_is_more_than_the_file() -> None:
    assert fitted(spec(size_bytes=20_000 * MB), NEEDS, 24_000 * MB).size_bytes == 20_000 * MB
    assert fitted(spec(size_bytes=1), NEEDS, 24_000 * MB).size_bytes == 253 * MB


def test_the_cache_is_layers_times_heads_times_tokens() -> None:
    model = shape(block_count=18, embedding_length=640, attention__head_count=4, attention__head_count_kv=1)
    assert cache_bytes(model, 2048) == 2048 * 18 * (160 + 160) * 2
    wide = shape(
        block_count=18, attention__head_count=4, attention__head_count_kv=1, attention__key_length=256, attention__value_length=128
    )
    assert cache_bytes(wide, 2048) == 2048 * 18 * (256 + 128) * 2
    assert cache_bytes(wide, 1) == 256 * 18 * (256 + 128) * 2
    by_layer = shape(block_count=3, embedding_length=64, attention__head_count=8, attention__head_count_kv=Array(3, (2, 0, 1)))
    assert cache_bytes(by_layer, 256) == 256 * 3 * 16 * 2
    assert needs_of(shape(), weights_bytes=7, context_tokens=256, batch_tokens=64).weights == 7


def test_the_head_of_a_file_tells_its_shape_and_its_length(tiny: Path) -> None:
    header = read_header(tiny)
    assert header.whole("block_count") == 2
    assert header.needed_bytes == tiny.stat().st_size
    assert header.vocabulary == read_shape(tiny).vocabulary > 256
    assert read_shape(tiny).whole("context_length") == header.whole("context_length") == 512


@given(st.binary(max_size=200), st.integers(0, 4000))
def test_no_file_breaks_the_reader(tiny: Path, tail: bytes, kept: int) -> None:
    path = tiny.with_name("odd.gguf")
    path.write_bytes(tiny.read_bytes()[:kept] + tail)
    for read in (read_shape, read_header):
        with contextlib.suppress(BadGguf):
            read(path)


def test_a_model_in_parts_is_all_of_them(tmp_path: Path) -> None:
    first = tmp_path / "m-00001-of-00003.gguf"
    assert [path.name for path in parts_of(first)] == ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]
    assert parts_of(tmp_path / "m.gguf") == (tmp_path / "m.gguf",)


def test_a_catalogue_without_sizes_is_completed_by_its_files(tiny: Path, tmp_path: Path) -> None:
    text = f"""
[models.here]
engine = "llamacpp"
source = "path:{tiny}"
limits = {{ context_tokens = 256, parallel = 2 }}
[models.later]
engine = "llamacpp"
source = "path:later.gguf"
limits = {{ context_tokens = 256 }}
"""
    catalogue = LiveCatalogue(parse_catalogue(text, "models.toml"))
    catalogue.complete_with(MemoryPlan(ModelStore(catalogue, tmp_path).file_there, 10**9))
    here = catalogue.get("here")
    assert here.size_bytes == tiny.stat().st_size
    assert here.memory_bytes == needs_in(tiny, here).total(2)
    assert [model.size_bytes for model in catalogue.catalogue_models()] == [here.memory_bytes]
    assert catalogue.get("later").memory_bytes == 0
    (tmp_path / "later.gguf").write_bytes(tiny.read_bytes())
    assert catalogue.get("later").size_bytes == tiny.stat().st_size
    assert [spec.name for spec in catalogue] == ["here", "later"]


def test_a_context_is_shortened_where_its_process_would_not_fit_beside_it(tiny: Path) -> None:
    entry = llamacpp_spec(tiny, context_tokens=8192, max_parallel=1)
    whole = needs_in(tiny, entry).total(1)
    for share in (0.80, 0.85, 0.90, 0.95, 0.99):
        budget = int(share * whole)
        planned = MemoryPlan(lambda _, tiny=tiny: tiny, budget)(entry)  # type: ignore[misc]
        assert needs_in(tiny, planned).total(1) <= 1.08 * budget
        assert (planned.context_tokens < 8192) == (whole > 1.08 * budget)
    assert MemoryPlan(lambda _: tiny, whole)(entry).context_tokens == 8192


def test_a_file_that_is_none_leaves_the_entry_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    entry = llamacpp_spec(tmp_path / "m.gguf")
    assert MemoryPlan(ModelStore(Catalogue(), tmp_path).file_there, MB)(entry) == entry


@needs_cyllama
@pytest.mark.slow
@pytest.mark.parametrize(("context_tokens", "parallel"), [(512, 1), (2048, 4), (16_384, 2)])
async def test_a_real_model_takes_what_it_counts_with(context_tokens: int, parallel: int) -> None:
    path = Path("~/.cache/roost/models/gemma3-270m-q4-k-m.gguf").expanduser()  # noqa: ASYNC240 - one call
    if not path.is_file():
        pytest.skip("the demonstration model has not been prepared")
    entry = llamacpp_spec(path, context_tokens=context_tokens, max_parallel=parallel)
    engine = llamacpp_engine(path.parent)
    model = await engine.load(entry)
    async with aclosing(model.generate("the quick brown fox " * 60, Sampling(max_tokens=2))) as events:
        async for _ in events:
            pass
    status = Path(f"/proc/{model.pid}/status").read_text()  # noqa: ASYNC240 - one call
    await engine.close()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found
    assert int(found[1]) * 1024 == pytest.approx(needs_in(path, entry).total(parallel), rel=0.1)
