"""Where GGUF files come from, and that nothing half-made is ever taken for one."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from engine_subjects import events_of, llamacpp_spec, needs_cyllama, text_in

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.errors import ModelLoadFailed, UnknownModel
from roost.worker.engines.interface import Sampling
from roost.worker.engines.registry import build_engines
from roost.worker.model_store import ModelStore, prepare_models

GGUF = b"GGUF\x03\x00\x00\x00" + bytes(16) + b" and the rest"  # whole, without metadata and tensors
DIGEST = hashlib.sha256(GGUF).hexdigest()


def brought(path: Path, sha256: str = "") -> ModelSpec:
    return ModelSpec("mine", "llamacpp", f"path:{path}", 1000, sha256=sha256)


def packaged(package: str, sha256: str = "", size_bytes: int = 1000) -> ModelSpec:
    return ModelSpec("packed", "llamacpp", f"package:{package}", size_bytes, sha256=sha256)


def ignore(_sentence: str) -> None:
    pass


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `tiny-test-weights` that notes beside the models folder each time it is assembled; returns the notes."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "tiny_test_weights.py").write_text(
        f"""
def assemble(output_path, overwrite=False):
    with (output_path.parent.parent / "notes").open("a") as file:
        file.write("assembled ")
    output_path.write_bytes({GGUF!r})
"""
    )
    monkeypatch.syspath_prepend(str(folder))
    return tmp_path / "notes"


def test_a_file_brought_by_path_is_used_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(GGUF)
    assert ModelStore(Catalogue(), tmp_path / "models").prepare(brought(path), ignore) == path
    assert not (tmp_path / "models").exists()


def test_a_relative_path_is_looked_for_in_the_models_folder(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(GGUF)
    assert ModelStore(Catalogue(), tmp_path).prepare(brought(Path("x.gguf")), ignore) == tmp_path / "x.gguf"


@pytest.mark.parametrize(
    ("content", "words"), [(None, "is missing"), (b"", "it is empty"), (b"GGUF", "not whole"), (b"PK\x03\x04", "begins with b'PK")]
)
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelLoadFailed, match=words) as refusal:
        ModelStore(Catalogue(), tmp_path).prepare(brought(path), ignore)
    assert str(path) in str(refusal.value)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="is not a file"):
        ModelStore(Catalogue(), tmp_path).prepare(brought(tmp_path), ignore)


def test_a_file_with_another_sha256_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(GGUF)
    store = ModelStore(Catalogue(), tmp_path)
    assert store.prepare(brought(path, DIGEST), ignore) == path
    path.write_bytes(GGUF + b"!")
    with pytest.raises(ModelLoadFailed, match="the catalogue says"):
        store.prepare(brought(path, DIGEST), ignore)


@pytest.mark.usefixtures("package")
def test_a_package_is_assembled_and_checked_once(tmp_path: Path) -> None:
    store = ModelStore(Catalogue(), tmp_path / "models")
    path = store.prepare(packaged("tiny-test-weights", DIGEST), ignore)
    assert path.read_bytes() == GGUF
    assert store.prepare(packaged("tiny-test-weights", DIGEST), ignore) == path
    assert (tmp_path / "notes").read_text() == "assembled "


@pytest.mark.usefixtures("package")
def test_a_prepared_file_needs_its_package_no_more(tmp_path: Path) -> None:
    store = ModelStore(Catalogue(), tmp_path / "models")
    prepared = store.prepare(packaged("tiny-test-weights", DIGEST), ignore)
    for path in (prepared, prepared.with_name(f"{prepared.name}.ok")):
        path.rename(path.with_name(path.name.replace("tiny-test", "uninstalled")))
    assert store.prepare(packaged("uninstalled-weights", DIGEST), ignore).read_bytes() == GGUF


@pytest.mark.usefixtures("package")
def test_a_file_that_was_changed_after_its_check_is_made_again(tmp_path: Path) -> None:
    store = ModelStore(Catalogue(), tmp_path / "models")
    path = store.prepare(packaged("tiny-test-weights", DIGEST), ignore)
    path.write_bytes(b"GGUF cut")
    assert store.prepare(packaged("tiny-test-weights", DIGEST), ignore).read_bytes() == GGUF


@pytest.mark.usefixtures("package")
def test_a_package_with_other_weights_than_the_catalogue_says_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="sha256"):
        ModelStore(Catalogue(), tmp_path / "models").prepare(packaged("tiny-test-weights", "0" * 64), ignore)
    assert [path.suffix for path in (tmp_path / "models").iterdir()] == [".lock"]


@pytest.mark.usefixtures("package")
def test_what_a_killed_process_left_half_made_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny-test-weights.99999-1.partial").write_bytes(b"GGUF half")
    path = ModelStore(Catalogue(), tmp_path / "models").prepare(packaged("tiny-test-weights", DIGEST), ignore)
    assert path.read_bytes() == GGUF
    assert not list((tmp_path / "models").glob("*.partial"))


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="package no-such-weights, which is not installed"):
        ModelStore(Catalogue(), tmp_path).prepare(packaged("no-such-weights"), ignore)


@pytest.mark.usefixtures("package")
def test_a_disk_without_room_is_told_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=r"must be free in .* and .* are"):
        ModelStore(Catalogue(), tmp_path / "models").prepare(packaged("tiny-test-weights", size_bytes=2**60), ignore)


@pytest.mark.usefixtures("package")
def test_a_models_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file is in the way")
    with pytest.raises(ModelLoadFailed, match=str(tmp_path / "models")):
        ModelStore(Catalogue(), tmp_path / "models").prepare(packaged("tiny-test-weights"), ignore)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise RuntimeError('half installed')", "half installed"),
        ("raise SystemExit(1)", "SystemExit"),
        ("", "has no attribute 'assemble'"),
    ],
)
def test_a_package_that_breaks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, why: str) -> None:
    package = f"broken-weights-{len(source)}"
    (tmp_path / f"{package.replace('-', '_')}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelLoadFailed, match=why):
        ModelStore(Catalogue(), tmp_path / "models").prepare(packaged(package), ignore)
    assert [path.suffix for path in (tmp_path / "models").iterdir()] == [".lock"]


def test_threads_that_prepare_at_once_assemble_once(tmp_path: Path, package: Path) -> None:
    spec = packaged("tiny-test-weights", DIGEST)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(ModelStore(Catalogue(), tmp_path / "models").prepare(spec, ignore))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in found] == [GGUF] * 4
    assert package.read_text() == "assembled "


def test_processes_that_prepare_at_once_assemble_once(tmp_path: Path, package: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from roost.cluster.catalogue import Catalogue, ModelSpec;"
        "from roost.worker.model_store import prepare_models;"
        f"spec = ModelSpec('packed', 'llamacpp', 'package:tiny-test-weights', 1000, sha256={DIGEST!r});"
        "prepare_models(Catalogue([spec]), ['packed'], Path(sys.argv[1]), print)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", program, str(tmp_path / "models")]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert package.read_text() == "assembled "
    assert all("packed: ready" in words for words in said)


async def test_a_wait_for_another_process_can_be_cancelled(tmp_path: Path) -> None:
    store = ModelStore(Catalogue(), tmp_path)
    cancelled = threading.Event()
    holder = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'ab'), fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(tmp_path / "tiny-test-weights.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220 - a test's neighbour
        assert process.stdout is not None
        process.stdout.readline()
        waiting = asyncio.create_task(store.file_of(packaged("tiny-test-weights")))
        await asyncio.to_thread(cancelled.wait, 0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        process.kill()


def test_preparing_by_name_reports_each_model(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(GGUF)
    said: list[str] = []
    simulated = ModelSpec("sim", "simulated", "published", 1000)
    prepare_models(Catalogue([brought(path), simulated]), ["sim", "mine"], tmp_path, said.append)
    assert said == ["sim: nothing to prepare for the simulated engine", f"mine: ready, {len(GGUF)} B, {path}"]


def test_preparing_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="mine"):
        prepare_models(Catalogue([brought(tmp_path / "x.gguf")]), ["mime"], tmp_path, ignore)


@needs_cyllama
def test_what_cannot_be_quantized_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(GGUF)
    small = ModelSpec("small", "llamacpp", "quantize:mine:Q4_0", 1000)
    with pytest.raises(ModelLoadFailed, match="could not be quantized to Q4_0"):
        ModelStore(Catalogue([brought(path), small]), tmp_path / "models").prepare(small, ignore)
    assert [path.suffix for path in (tmp_path / "models").iterdir()] == [".lock"]


@needs_cyllama
async def test_a_model_is_quantized_at_its_first_load_and_kept(tmp_path: Path, tiny_model: Path) -> None:
    base = llamacpp_spec(tiny_model)
    small = ModelSpec("small", "llamacpp", "quantize:tiny:Q8_0", 1_000_000, context_tokens=128)
    engines = build_engines(ModelStore(Catalogue([base, small]), tmp_path))
    model = await engines["llamacpp"].load(small)
    assert text_in(await events_of(model, "the cat", Sampling(max_tokens=5)))
    store = ModelStore(Catalogue([base, small]), tmp_path)
    made = (await store.file_of(small)).stat()
    assert made.st_size < tiny_model.stat().st_size / 2  # noqa: ASYNC240 - one call
    await engines["llamacpp"].load(small)
    assert (await store.file_of(small)).stat() == made
    await engines["llamacpp"].close()


def test_the_registry_has_every_engine_and_has_done_nothing_yet(tmp_path: Path) -> None:
    assert set(build_engines(ModelStore(Catalogue(), tmp_path / "models"))) == {"llamacpp", "openai", "simulated"}
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma-3-270m", "gemma-3-270m-q4_0", "gemma-3-270m-q2_k", "gemma-3-270m-q8_0"])
async def test_every_real_model_that_ships_is_as_large_as_it_says_and_has_its_own_text(gemma: tuple[Catalogue, Path], name: str) -> None:
    catalogue, folder = gemma
    started = time.monotonic()
    engines = build_engines(ModelStore(catalogue, folder))
    model = await engines["llamacpp"].load(catalogue.get(name))
    text = text_in(await events_of(model, "The capital of France is", Sampling(max_tokens=12)))
    await engines["llamacpp"].close()
    path = await ModelStore(catalogue, folder).file_of(catalogue.get(name))
    size_bytes = path.stat().st_size
    print(name, size_bytes, repr(text), f"{time.monotonic() - started:.1f} s")
    assert text.strip()
    assert size_bytes <= catalogue.get(name).size_bytes <= size_bytes * 1.01


def test_without_llama_cpp_the_error_says_what_to_type() -> None:
    if importlib.util.find_spec("cyllama") is not None:
        pytest.skip("cyllama is installed here; the other case cannot be seen")
    with pytest.raises(ModelLoadFailed, match="package cyllama"):
        asyncio.run(build_engines(ModelStore(Catalogue(), Path()))["llamacpp"].load(llamacpp_spec(Path("x.gguf"))))
