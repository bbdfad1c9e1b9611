"""One entry of the model catalogue, which cannot be built invalid: engine, source, size, limits and the engine's own options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from roost.cluster.errors import InvalidField
from roost.cluster.names import check_model_name, nearest_names
from roost.cluster.sizes import MAX_SIZE_BYTES, format_size
from roost.cluster.worker_state import CatalogueModel

LLAMACPP: Final = "llamacpp"
OPENAI: Final = "openai"
SIMULATED: Final = "simulated"
ENGINES: Final = (LLAMACPP, OPENAI, SIMULATED)

MAX_CONTEXT_TOKENS: Final = 16 * 1024 * 1024  # beyond any model; a larger number is a mistake
MAX_PARALLEL: Final = 1024
MAX_SOURCE_CHARACTERS: Final = 4096
DEFAULT_CONTEXT_TOKENS: Final = 2048
DEFAULT_MAX_TOKENS: Final = 128  # generated when a request does not say
LARGEST_MAX_TOKENS: Final = 1024  # the most a request may ask for, where the entry does not say

QUANTIZATIONS: Final = ("Q2_K", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")

Option = str | int | float | bool

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_PACKAGE: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_NO_OPTIONS: Final[Mapping[str, Option]] = MappingProxyType({})
_SOURCES: Final = {
    LLAMACPP: '"path:FILE.gguf", "package:NAME" or "quantize:MODEL:TYPE"',
    OPENAI: '"http://HOST:PORT/v1#MODEL" or "https://..."',
    SIMULATED: '"published"',
}


@dataclass(frozen=True, slots=True)
class OptionRule:
    """What one option may be: a number between two bounds, one of some words, or (without both) a text that is not empty."""

    lowest: float | None = None
    highest: float | None = None
    is_whole: bool = True
    choices: tuple[str, ...] = ()

    def check(self, key: str, value: Option) -> None:
        """Raises InvalidField, naming `key`."""
        if self.lowest is None or self.highest is None:
            self._check_text(key, value)
        elif isinstance(value, bool | str) or (self.is_whole and not isinstance(value, int)):
            raise InvalidField(key, f"must be a {'whole ' if self.is_whole else ''}number (got {value!r})")
        elif not self.lowest <= value <= self.highest:
            raise InvalidField(key, f"must be {self.lowest:g}-{self.highest:g} (got {value})")

    def _check_text(self, key: str, value: Option) -> None:
        if not isinstance(value, str) or not value or (self.choices and value not in self.choices):
            raise InvalidField(key, f"must be {'one of ' + ', '.join(self.choices) if self.choices else 'a text'} (got {value!r})")


TIERS: Final = (
    "published-serverlessllm-nvme-raid0",
    "published-safetensors-nvme-raid0",
    "published-serverlessllm-h100",
    "published-safetensors-h100",
    "pinned-memory-pcie4",
    "nvme-pcie4",
    "nvme-pcie4-raid0",
    "sata-ssd",
    "network-10gbe",
    "network-25gbe",
    "network-100gbe",
)  # bandwidths with their sources: roost.worker.engines.published
PROFILES: Final = ("8b-h100", "70b-h100-tp8", "small-l40s")  # token times with their sources: the same
RESIDENCIES: Final = ("none", "vllm-sleep", "ollama")
LISTINGS: Final = ("complete", "incomplete")  # whether a server's list of models names all that it serves

OPTIONS: Final[Mapping[str, Mapping[str, OptionRule]]] = {
    LLAMACPP: {
        "threads": OptionRule(1, 256),
        "batch_tokens": OptionRule(1, 8192),
    },
    OPENAI: {
        "api_key_env": OptionRule(),
        "timeout_s": OptionRule(0.1, 3600, is_whole=False),
        "check_timeout_s": OptionRule(0.01, 600, is_whole=False),
        "listing": OptionRule(choices=LISTINGS),
        "residency": OptionRule(choices=RESIDENCIES),
    },
    SIMULATED: {
        "tier": OptionRule(choices=TIERS),
        "profile": OptionRule(choices=PROFILES),
        "seed": OptionRule(0, 2**32 - 1),
        "time_scale": OptionRule(0.0, 1000.0, is_whole=False),
    },
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One entry, valid by itself. Sizes in bytes, lengths in tokens.

    `size_bytes` is what the weights take in memory (0: none here, it is served elsewhere, or a llamacpp model whose file says it), and
    `context_bytes` what its contexts and its process take beside them, which is known where the file is (0: not yet).
    `context_tokens` holds prompt and generated tokens together (0: not stated). `max_parallel` generations may run at once. `sha256`
    of the GGUF file, or "". Raises InvalidField, naming the key of models.toml.
    """

    name: str
    engine: str
    source: str
    size_bytes: int = 0
    context_tokens: int = DEFAULT_CONTEXT_TOKENS
    default_max_tokens: int = DEFAULT_MAX_TOKENS
    max_tokens: int = LARGEST_MAX_TOKENS
    max_parallel: int = 1
    sha256: str = ""
    options: Mapping[str, Option] = field(default_factory=lambda: _NO_OPTIONS)
    context_bytes: int = 0

    def __post_init__(self) -> None:
        check_model_name(self.name, "name")
        if self.engine not in ENGINES:
            raise InvalidField("engine", f"{self.engine[:80]!r} is not an engine; one of {', '.join(ENGINES)}")
        _check_source(self.engine, self.source)
        _check_range("size", self.size_bytes, 1 if self.engine == SIMULATED else 0, MAX_SIZE_BYTES)
        _check_range("context_bytes", self.context_bytes, 0, MAX_SIZE_BYTES)
        _check_range("limits.context_tokens", self.context_tokens, 0 if self.engine == OPENAI else 1, MAX_CONTEXT_TOKENS)
        _check_range("limits.max_tokens", self.max_tokens, 1, MAX_CONTEXT_TOKENS)  # the end of the context ends a generation too
        _check_range("limits.default_max_tokens", self.default_max_tokens, 1, self.max_tokens)
        _check_range("limits.parallel", self.max_parallel, 1, MAX_PARALLEL)
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise InvalidField("sha256", "must be 64 lower-case hexadecimal digits")
        for name, value in self.options.items():
            rule = OPTIONS[self.engine].get(name)
            if rule is None:
                raise InvalidField(f"options.{name}", unknown_key(f"an option of the {self.engine} engine", name, OPTIONS[self.engine]))
            rule.check(f"options.{name}", value)

    @property
    def is_simulated(self) -> bool:
        """True where no weights stand behind the entry: its tokens are made up."""
        return self.engine == SIMULATED

    @property
    def memory_bytes(self) -> int:
        """What it takes of a worker's memory budget."""
        return self.size_bytes + self.context_bytes

    @property
    def quantized_from(self) -> tuple[str, str] | None:
        """(base model, type) of a "quantize:" source; None for the others."""
        kind, _, rest = self.source.partition(":")
        if kind != "quantize":
            return None
        base, _, quantization = rest.rpartition(":")
        return base, quantization

    def to_catalogue_model(self) -> CatalogueModel:
        """What of it travels to deciders."""
        return CatalogueModel(
            name=self.name,
            engine=self.engine,
            size_bytes=self.memory_bytes,
            is_simulated=self.is_simulated,
            context_tokens=self.context_tokens,
        )

    def __repr__(self) -> str:
        return f"<{self.name} {self.engine} {self.source} {format_size(self.memory_bytes)}>"


def unknown_key(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence about a key that nobody reads, with the nearest that are read."""
    known = sorted(known)
    nearest = nearest_names(name, known)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else f"known: {', '.join(known)}"
    return f"is not {what}; {hint}"


def _check_range(key: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise InvalidField(key, f"must be {lowest}-{highest} (got {value})")


def _check_source(engine: str, source: str) -> None:
    kind, _, rest = source.partition(":")
    if not source.strip() or not source.isprintable() or len(source) > MAX_SOURCE_CHARACTERS:
        raise InvalidField("source", f"must be a printable text of at most {MAX_SOURCE_CHARACTERS} characters: {_SOURCES[engine]}")
    if engine == SIMULATED:
        is_known = source == "published"
    elif engine == OPENAI:
        url, _, served_name = source.partition("#")
        is_known = kind in ("http", "https") and len(url.partition("://")[2]) > 0 and bool(served_name) and " " not in url
    elif kind == "path":
        is_known = bool(rest)
    elif kind == "package":
        is_known = _PACKAGE.fullmatch(rest) is not None
    else:
        base, _, quantization = rest.rpartition(":")
        is_known = kind == "quantize" and bool(base) and quantization in QUANTIZATIONS
    if not is_known:
        kinds = f" with TYPE one of {', '.join(QUANTIZATIONS)}" if kind == "quantize" else ""
        raise InvalidField("source", f"{source[:120]!r} is not a source of the {engine} engine: {_SOURCES[engine]}{kinds}")
