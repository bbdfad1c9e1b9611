"""Writes tiny random llama models: half a megabyte, loaded in milliseconds, the same for the same seed. Their text is noise."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

CONTEXT_TOKENS = 512
_EMBEDDING = 64
_FEED_FORWARD = 128
_HEADS = 4
_LETTERS = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
_SPECIAL = ["<unk>", "<s>", "</s>"]
_PIECES = [f"\u2581{first}{second}" for first in _LETTERS for second in "aeiou"] + ["\u2581", *_LETTERS]


def write_tiny_gguf(path: Path, *, seed: int = 1, blocks: int = 2, end_token: int = 2) -> Path:
    """A llama model of `blocks` blocks with random weights, whose vocabulary has words, letters and every byte.

    It says letters and words, and hardly ever "</s>"; name a token that it does say as `end_token` to have it end its text.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(_EMBEDDING)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_EMBEDDING // _HEADS)
    tokens = _vocabulary(writer, end_token)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, rng.normal(0.0, 0.3, shape).astype(np.float32))

    add("token_embd.weight", tokens, _EMBEDDING)
    output = rng.normal(0.0, 0.3, (tokens, _EMBEDDING)).astype(np.float32)
    output[: len(_SPECIAL) + 256] = 0.0  # neither special tokens nor single bytes are ever the likeliest
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(_EMBEDDING, dtype=np.float32))
    for block in range(blocks):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{block}.{name}.weight", np.ones(_EMBEDDING, dtype=np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{block}.{name}.weight", _EMBEDDING, _EMBEDDING)
        add(f"blk.{block}.ffn_gate.weight", _FEED_FORWARD, _EMBEDDING)
        add(f"blk.{block}.ffn_up.weight", _FEED_FORWARD, _EMBEDDING)
        add(f"blk.{block}.ffn_down.weight", _EMBEDDING, _FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary(writer: gguf.GGUFWriter, end_token: int) -> int:
    """Adds the tokenizer; returns how many tokens it has."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = [*_SPECIAL, *byte_tokens, *_PIECES]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * len(byte_tokens) + [gguf.TokenType.NORMAL] * len(_PIECES)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * (len(_SPECIAL) + 256) + [-float(at) for at in range(len(_PIECES))])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(end_token)
    writer.add_unk_token_id(0)
    return len(tokens)
