"""How much of the memory budget a model on this machine takes: weights, contexts and the process around them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from roost.cluster.catalogue import ModelSpec
from roost.service.logs import get_logger
from roost.worker.engines.gguf_header import BadGguf, parts_of, read_shape
from roost.worker.engines.llama_memory import CONTEXT_STEP, Needs, needs_of
from roost.worker.engines.llamacpp import batch_tokens_of

SLACK: Final = 0.08  # of the budget that a model alone in it may take beyond it: with what estimates are off by, a tenth
log = get_logger()


class MemoryPlan:
    """Completes catalogue entries by what their files say. `file_of` gives the file of an entry, None where it is not there yet."""

    def __init__(self, file_of: Callable[[ModelSpec], Path | None], budget_bytes: int) -> None:
        self._file_of = file_of
        self._budget_bytes = budget_bytes

    def __call__(self, spec: ModelSpec) -> ModelSpec:
        """The entry with what its contexts take, and with as many of them as the budget holds; as it was where its file says nothing.

        A file that cannot be read is told by whoever loads it.
        """
        try:
            path = self._file_of(spec)
            if path is None:
                return spec
            spec = self._with_a_context_that_fits(spec, path)
            return fitted(spec, needs_in(path, spec), self._budget_bytes)
        except (BadGguf, OSError):
            return spec

    def _with_a_context_that_fits(self, spec: ModelSpec, path: Path) -> ModelSpec:
        """With a shorter context where the model would take more than the budget and its slack with a single one of full length.

        Only where what its process takes is what is too much: whose weights and context alone are more than the budget is refused.
        """
        most = int(self._budget_bytes * (1 + SLACK))

        def takes(tokens: int) -> tuple[int, int]:
            needs = needs_in(path, replace(spec, context_tokens=tokens))
            weights = max(needs.weights, spec.size_bytes)
            return weights + needs.context, weights + needs.context + needs.process

        bare, whole = takes(spec.context_tokens)
        if bare > self._budget_bytes or whole <= most:
            return spec
        steps = range(1, spec.context_tokens // CONTEXT_STEP + 1)
        fitting = bisect_right(steps, most, key=lambda step: takes(step * CONTEXT_STEP)[1])
        if not fitting:
            return spec
        log.warning("context_shortened", model=spec.name, context_tokens=fitting * CONTEXT_STEP, stated=spec.context_tokens)
        return replace(spec, context_tokens=fitting * CONTEXT_STEP)


def needs_in(path: Path, spec: ModelSpec) -> Needs:
    """What the model in that file needs within the entry's limits. Raises BadGguf, OSError."""
    weights_bytes = sum(part.stat().st_size for part in parts_of(path))
    return needs_of(read_shape(path), weights_bytes=weights_bytes, context_tokens=spec.context_tokens, batch_tokens=batch_tokens_of(spec))


def fitted(spec: ModelSpec, needs: Needs, budget_bytes: int) -> ModelSpec:
    """The entry with fewer generations at once where not all contexts fit the budget. Pure.

    One context must fit beside the weights, else the entry keeps what it needs, which is more than there is, and is refused when it
    is asked for. What the process takes beside them may go beyond the budget: then the model has the budget for itself.
    """
    needs = replace(needs, weights=max(needs.weights, spec.size_bytes))
    room = budget_bytes - needs.weights - needs.process
    parallel = max(1, min(spec.max_parallel, room // needs.context if needs.context else spec.max_parallel))
    memory_bytes = needs.total(parallel)
    if needs.weights + needs.context <= budget_bytes:
        memory_bytes = min(memory_bytes, budget_bytes)
    return replace(spec, size_bytes=needs.weights, max_parallel=parallel, context_bytes=max(1, memory_bytes - needs.weights))
