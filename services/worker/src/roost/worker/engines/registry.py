"""Every engine by the name that the catalogue calls it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from roost.cluster.model_spec import LLAMACPP, OPENAI, SIMULATED
from roost.worker.engines.interface import Engine
from roost.worker.engines.llamacpp import DEFAULT_PATIENCE_S, LlamaCppEngine
from roost.worker.engines.openai import OpenAIEngine
from roost.worker.engines.simulated import SimulatedEngine
from roost.worker.model_store import ModelStore


def build_engines(
    store: ModelStore,
    *,
    threads: int = 1,
    time_scale: float = 1.0,
    patience_s: float = DEFAULT_PATIENCE_S,
    environment: Mapping[str, str] | None = None,
) -> Mapping[str, Engine]:
    """One engine of each kind, none of which has loaded or opened anything yet.

    `store` has the files; `threads` is llama.cpp's default for each model, `time_scale` multiplies simulated times (0.01: a hundred
    times faster), and `environment` is where API keys are looked up (None: the process's own).
    """
    return {
        LLAMACPP: LlamaCppEngine(store, threads=threads, patience_s=patience_s),
        OPENAI: OpenAIEngine(environment=os.environ if environment is None else environment),
        SIMULATED: SimulatedEngine(time_scale=time_scale),
    }
