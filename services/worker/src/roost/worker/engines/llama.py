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

from roost.worker.engines.interface import Sampling
from roost.worker.engines.processor import processor
from roost.worker.engines.seeds import token_seed

GREEDY_BELOW: Final = 1e-3  # dividing by less overflows what the model said
UNFINISHED: Final = "\ufffd"  # how an incomplete character is shown

_CACHE_TYPES: Final = {0: "f32", 1: "f16", 8: "q8_0", 30: "bf16"}  # ggml's numbers for what a context may keep keys and values in
_FLASH_ATTENTION: Final = {-1: "auto", 0: "off", 1: "on"}
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
    def fingerprint(self) -> str:
        """All that text depends on but the weights. The number of threads is not among it: each sum is one thread's."""
        parameters = self._context_parameters()
        cache = "/".join(_CACHE_TYPES.get(int(number), str(number)) for number in (parameters.type_k, parameters.type_v))
        parts = {
            "engine": "llamacpp",
            "cyllama": version("cyllama"),
            "ggml": f"{llama_cpp.ggml_version()}-{llama_cpp.ggml_commit()}",
            "processor": processor(),
            "batch": str(self.batch_tokens),
            "context": str(self.context_tokens),
            "swa": "full" if parameters.swa_full else "window",
            "cache": cache,
            "flash": _FLASH_ATTENTION.get(int(parameters.flash_attn_type), str(parameters.flash_attn_type)),
        }
        return ";".join(f"{name}={value}" for name, value in parts.items())

    def has(self, token: int) -> bool:
        """Whether the vocabulary has a token of that number."""
        return 0 <= token < int(self._vocabulary.n_vocab)

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
        return Context(llama_cpp.LlamaContext(self._model, self._context_parameters()), self.batch_tokens)

    def _context_parameters(self) -> ContextParameters:
        parameters = cast("ContextParameters", llama_cpp.LlamaContextParams())
        parameters.n_ctx = self.context_tokens
        parameters.n_batch = self.batch_tokens
        parameters.n_ubatch = self.batch_tokens
        parameters.n_seq_max = 1
        parameters.n_threads = self._threads
        parameters.n_threads_batch = self._threads
        return parameters


class ContextParameters(Protocol):
    """What is set and read of cyllama's LlamaContextParams."""

    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_seq_max: int
    n_threads: int
    n_threads_batch: int
    swa_full: bool
    type_k: int
    type_v: int
    flash_attn_type: int


class Sampler:
    """How the next token is chosen: greedy where the temperature is (almost) 0, else drawn by a seed that token's index has of its own.

    State: what penalties count, which is the generated tokens that were accepted; nothing else is carried from token to token.
    """

    def __init__(self, sampling: Sampling, seed: int, *, context_tokens: int) -> None:
        self._seed = seed
        self._is_greedy = sampling.temperature < GREEDY_BELOW
        self._has_penalties = sampling.has_penalties
        self._base = llama_cpp.LlamaSampler(llama_cpp.LlamaSamplerChainParams())
        if sampling.has_penalties:
            self._base.add_penalties(context_tokens, sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty)
        if self._is_greedy:
            self._base.add_greedy()
            return
        if sampling.top_k > 0:
            self._base.add_top_k(sampling.top_k)
        if 0.0 < sampling.top_p < 1.0:
            self._base.add_top_p(sampling.top_p, 1)
        self._base.add_temp(sampling.temperature)

    def accept(self, token: int) -> None:
        """The token was generated."""
        if self._has_penalties:
            self._base.accept(token)

    def choose(self, context: Decoder, index: int) -> int:
        """Token `index` of the generation, which is to be accepted then."""
        chain = self._base.clone()  # 2 us; sampling would accept on the base what its caller accepts
        if not self._is_greedy:
            chain.add_dist(token_seed(self._seed, index))
        return int(chain.sample(context, -1))


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

    def next_token(self, sampler: Sampler, index: int) -> int:
        """The token that follows what was read last, as number `index` of its generation."""
        token = sampler.choose(self._context, index)
        sampler.accept(token)
        return token

    def clear(self) -> None:
        """Forgets everything, for the next generation."""
        self._context.kv_cache_clear()
        self.position = 0
