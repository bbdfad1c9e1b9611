"""The few things Roost asks of llama.cpp, over cyllama. Only the child process imports it: a mistake in here can end a process.

Batches are `batch_tokens` wide while a prompt is read and one token wide after it, whatever else runs, because greedy text depends
on the shape of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol, cast

from cyllama.llama import llama_cpp

GREEDY_BELOW: Final = 1e-3  # dividing by less overflows what the model said
UNFINISHED: Final = "\ufffd"  # how an incomplete character is shown

_ANCHOR: Final = "a"  # detokenising drops a space at the very beginning; after a letter it does not


class WrongModel(ValueError):
    """The file is a model, but not one that can continue text within the limits asked for."""


class Weights:
    """A GGUF file in memory and its vocabulary."""

    def __init__(self, path: Path, *, context_tokens: int, batch_tokens: int, threads: int) -> None:
        """Raises ValueError or OSError where the file is missing or no model, WrongModel where it cannot be used."""
        llama_cpp.ggml_backend_load_all()
        llama_cpp.llama_backend_init()
        self.context_tokens = context_tokens
        self.batch_tokens = min(batch_tokens, context_tokens)
        self._threads = threads
        self._model = llama_cpp.LlamaModel(str(path), llama_cpp.LlamaModelParams())
        self._vocabulary = self._model.get_vocab()
        self._check()
        self._anchor = self._vocabulary.tokenize(_ANCHOR, False, False)

    def _check(self) -> None:
        if self._model.has_encoder() or not self._model.has_decoder():
            raise WrongModel("it is an encoder; only models that continue text can be served")
        trained = int(self._model.n_ctx_train)
        if self.context_tokens > trained:
            raise WrongModel(f"limits.context_tokens is {self.context_tokens} and it was trained for {trained}")
        if int(self._vocabulary.n_vocab) <= 0:
            raise WrongModel("it has no vocabulary")

    @property
    def engine_version(self) -> str:
        return f"cyllama-{version('cyllama')}"

    def tokenize(self, prompt: str) -> list[int]:
        """With the model's own beginning mark; control tokens written in the prompt count as such."""
        return cast("list[int]", self._vocabulary.tokenize(prompt, True, True))

    def ends(self, token: int) -> bool:
        """Whether the token says that the text is over."""
        return bool(self._vocabulary.is_eog(token))

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens within a text; ends in UNFINISHED while the last character is incomplete."""
        longest = 256 * (len(tokens) + 1)
        shown = cast("str", self._vocabulary.detokenize([*self._anchor, *tokens], longest, False, False))
        return shown.removeprefix(_ANCHOR)

    def open_context(self) -> Context:
        """Memory for one generation: about 20 kB a token of context for a small model."""
        parameters = llama_cpp.LlamaContextParams()
        parameters.n_ctx = self.context_tokens
        parameters.n_batch = self.batch_tokens
        parameters.n_ubatch = self.batch_tokens
        parameters.n_seq_max = 1
        parameters.n_threads = self._threads
        parameters.n_threads_batch = self._threads
        return Context(llama_cpp.LlamaContext(self._model, parameters), self.batch_tokens)


class Sampler:
    """How the next token is chosen. Seeded; greedy where the temperature is (almost) 0."""

    def __init__(self, *, temperature: float, top_p: float, top_k: int, seed: int) -> None:
        self.chain = llama_cpp.LlamaSampler(llama_cpp.LlamaSamplerChainParams())
        if temperature < GREEDY_BELOW:
            self.chain.add_greedy()
            return
        if top_k > 0:
            self.chain.add_top_k(top_k)
        if 0.0 < top_p < 1.0:
            self.chain.add_top_p(top_p, 1)
        self.chain.add_temp(temperature)
        self.chain.add_dist(seed)


class Decoder(Protocol):
    """What `Context` uses of cyllama's LlamaContext."""

    def decode(self, batch: object) -> object: ...

    def kv_cache_clear(self) -> object: ...


class Context:
    """The memory of one generation at a time. `position` counts the tokens in it."""

    def __init__(self, context: Decoder, batch_tokens: int) -> None:
        self._context = context
        self._batch = llama_cpp.LlamaBatch(n_tokens=batch_tokens, embd=0, n_seq_max=1)
        self.position = 0

    def read(self, tokens: Sequence[int]) -> None:
        """Takes in at most `batch_tokens` tokens. Raises ValueError where the context is full, RuntimeError where llama.cpp broke."""
        self._batch.clear()
        for at, token in enumerate(tokens):
            self._batch.add(token, self.position + at, [0], at == len(tokens) - 1)
        self._context.decode(self._batch)
        self.position += len(tokens)

    def next_token(self, sampler: Sampler) -> int:
        """The token that follows what was read last."""
        return int(sampler.chain.sample(self._context, -1))

    def clear(self) -> None:
        """Forgets everything, for the next generation."""
        self._context.kv_cache_clear()
        self.position = 0
