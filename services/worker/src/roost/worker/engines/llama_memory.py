"""What a model takes of a machine's memory under llama.cpp: its weights, a context for each generation at once, and its process. Pure.

Estimated from the head of its file. Compared with Gemma 3 270M (Q4_K_M, llama.cpp in cyllama 0.2.18), resident after a generation, in MB:
1 context of 2,048 tokens 400 (estimate 391), 4 of 2,048 534 (521), 1 of 16,384 665 (670), 3 of 16,384 1,289 (1,315).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roost.worker.engines.gguf_header import Header

CONTEXT_STEP: Final = 256  # llama.cpp rounds the length of a context up to it
CELL_BYTES: Final = 2  # keys and values are kept as 16-bit floats
FLOAT_BYTES: Final = 4  # what is computed
PROCESS_BYTES: Final = 33_000_000  # the interpreter and llama.cpp's own code, measured
TOKEN_BYTES: Final = 236  # of the vocabulary's tables for each token, measured (62 MB for 262,144)
WORKING_ROWS: Final = 8  # rows as wide as the embedding that are alive at once while a batch is computed


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes: what is there once, for each context, and for the process around it."""

    weights: int
    context: int = 0
    process: int = 0

    def total(self, parallel: int) -> int:
        return self.weights + parallel * self.context + self.process


def needs_of(header: Header, *, weights_bytes: int, context_tokens: int, batch_tokens: int) -> Needs:
    """Of a file with `weights_bytes`, for contexts of that many tokens that read prompts in batches of `batch_tokens`."""
    return Needs(
        weights_bytes,
        cache_bytes(header, context_tokens) + compute_bytes(header, context_tokens, batch_tokens),
        PROCESS_BYTES + header.vocabulary * TOKEN_BYTES,
    )


def cache_bytes(header: Header, context_tokens: int) -> int:
    """Keys and values of one context that is full. Sliding windows do not shorten it: their cells are kept at full length here."""
    tokens = -(-context_tokens // CONTEXT_STEP) * CONTEXT_STEP
    width, heads = header.whole("embedding_length"), max(1, header.whole("attention.head_count"))
    key = header.whole("attention.key_length", width // heads)
    value = header.whole("attention.value_length", width // heads)
    layers = header.wholes("attention.head_count_kv") or (header.whole("attention.head_count_kv", heads),) * header.whole("block_count")
    return tokens * sum(layers) * (key + value) * CELL_BYTES


def compute_bytes(header: Header, context_tokens: int, batch_tokens: int) -> int:
    """What one context takes to compute a batch: attention over all its tokens, the rows between layers, and the row of the answer."""
    batch = min(batch_tokens, context_tokens)
    heads, width = max(1, header.whole("attention.head_count")), header.whole("embedding_length")
    attention = context_tokens * batch * heads
    rows = batch * (WORKING_ROWS * width + 2 * header.whole("feed_forward_length"))
    return (attention + rows + header.vocabulary) * FLOAT_BYTES
