"""The model catalogue: which models exist, which engine serves each, from where, how large it is and what it allows.

`parse_catalogue` reads the text of a `models.toml`; every complaint names the origin and the line. Reading files is the caller's job.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from roost.cluster.errors import InvalidField, UnknownModel
from roost.cluster.model_spec import (
    DEFAULT_CONTEXT_TOKENS,
    DEFAULT_MAX_TOKENS,
    ENGINES,
    LARGEST_MAX_TOKENS,
    LLAMACPP,
    MAX_CONTEXT_TOKENS,
    OPENAI,
    ModelSpec,
    Option,
    unknown_key,
)
from roost.cluster.names import nearest_names
from roost.cluster.sizes import parse_size
from roost.cluster.toml_lines import Path, TomlLines
from roost.cluster.worker_state import CatalogueModel

__all__ = ["Catalogue", "CatalogueError", "CatalogueModel", "LiveCatalogue", "ModelSpec", "default_catalogue_text", "parse_catalogue"]

MAX_MODELS: Final = 10_000  # a listing of more would not fit one message
MAX_CATALOGUE_CHARACTERS: Final = 4 * 1024 * 1024  # some 400 characters for each of them

_ENTRY_KEYS: Final = ("engine", "source", "size", "sha256", "limits", "options")
_LIMIT_KEYS: Final = ("context_tokens", "default_max_tokens", "max_tokens", "parallel")
_DEFAULT_PARALLEL: Final = {OPENAI: 16, LLAMACPP: 1}
_TOML_LINE: Final = re.compile(r"\s*\(at line (\d+), column \d+\)")

Table = Mapping[str, object]


class CatalogueError(ValueError):
    """A models.toml says something it cannot mean. The text is "ORIGIN line N: KEY: PROBLEM"."""

    def __init__(self, origin: str, line: int, problem: str) -> None:
        super().__init__(f"{origin} line {line}: {problem}")
        self.origin = origin
        self.line = line
        self.problem = problem


class Catalogue:
    """Immutable; names are unique and every "quantize:" source names a llamacpp entry that has a file of its own."""

    def __init__(self, specs: Iterable[ModelSpec] = ()) -> None:
        """Raises InvalidField, with the field "NAME.KEY"."""
        self._specs: dict[str, ModelSpec] = {}
        for spec in specs:
            if spec.name in self._specs:
                raise InvalidField(f"{spec.name}.name", "is listed twice")
            self._specs[spec.name] = spec
        for spec in self._specs.values():
            self._check_base(spec)
        if len(self._specs) > MAX_MODELS:
            raise InvalidField("models", f"lists {len(self._specs)} models; at most {MAX_MODELS} are allowed")

    def _check_base(self, spec: ModelSpec) -> None:
        if spec.quantized_from is None:
            return
        base = self._specs.get(spec.quantized_from[0])
        if base is None:
            nearest = nearest_names(spec.quantized_from[0], self._specs)
            hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
            raise InvalidField(f"{spec.name}.source", f"quantizes {spec.quantized_from[0]!r}, which is not listed{hint}")
        if base.engine != LLAMACPP or base.quantized_from is not None:
            raise InvalidField(f"{spec.name}.source", f"quantizes {base.name!r}, which has no GGUF file of its own")

    def get(self, name: str) -> ModelSpec:
        """Raises UnknownModel with the nearest names."""
        spec = self._specs.get(name)
        if spec is None:
            raise UnknownModel(name, nearest_names(name, self._specs))
        return spec

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._specs))

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._specs[name] for name in self.names)

    def __len__(self) -> int:
        return len(self._specs)

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def catalogue_models(self) -> tuple[CatalogueModel, ...]:
        """Every entry as deciders need it, ordered by name. Where only the file says how large a model is, whoever has it must tell."""
        return tuple(spec.to_catalogue_model() for spec in self if spec.size_bytes or spec.engine != LLAMACPP)

    def __repr__(self) -> str:
        return f"<Catalogue {len(self)} models, {sum(spec.is_simulated for spec in self)} simulated>"


class LiveCatalogue(Catalogue):
    """A catalogue that becomes another one when its file was changed. State: the entries, always those of one whole catalogue, and of
    the one before where they were still in use; what their files say of memory is added once it is known.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__(catalogue)
        self._complete: Callable[[ModelSpec], ModelSpec] = lambda spec: spec

    def complete_with(self, complete: Callable[[ModelSpec], ModelSpec]) -> None:
        """Each entry of which it is not known what its contexts take is completed when it is next looked at."""
        self._complete = complete

    def get(self, name: str) -> ModelSpec:
        """See `Catalogue.get`."""
        spec = super().get(name)
        if spec.engine == LLAMACPP and not spec.context_bytes:
            spec = self._specs[name] = self._complete(spec)
        return spec

    def __iter__(self) -> Iterator[ModelSpec]:
        return (self.get(name) for name in self.names)

    def become(self, catalogue: Catalogue, *, keep: Iterable[str] = ()) -> None:
        """From now on `catalogue`; entries named in `keep` stay although it does not list them."""
        kept = {name: self._specs[name] for name in keep if name in self._specs}
        self._specs = {**kept, **{spec.name: spec for spec in catalogue}}


def parse_catalogue(text: str, origin: str) -> Catalogue:
    """The catalogue that `text` describes; `origin` is its name in complaints. Raises CatalogueError for the first mistake."""
    document = _parse_toml(text, origin)
    lines = TomlLines(text)
    specs: list[ModelSpec] = []
    path: Path = ()
    try:
        _check_keys(document, ("models",), "a table of a model catalogue")
        path = ("models",)
        entries = _table(document.get("models", {}), "")
        for name, entry in entries.items():
            path = ("models", name)
            specs.append(_read_entry(name, _table(entry, "")))
        path = ("models",)
        return Catalogue(specs)
    except InvalidField as error:
        at = (*path, *_key_path(error.field, [spec.name for spec in specs] if path == ("models",) else []))
        raise CatalogueError(origin, lines.line_of(at), f"{'.'.join(at)}: {error.problem}") from error


def _key_path(key: str, names: Iterable[str]) -> Path:
    """The path of "limits.parallel", or of "NAME.source" where the name itself may hold dots."""
    for name in names:
        if key.startswith(f"{name}."):
            return (name, *key.removeprefix(f"{name}.").split("."))
    return tuple(part for part in key.split(".") if part)


def _parse_toml(text: str, origin: str) -> Table:
    if len(text) > MAX_CATALOGUE_CHARACTERS:
        raise CatalogueError(origin, 1, f"has {len(text)} characters; at most {MAX_CATALOGUE_CHARACTERS} are read")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.search(str(error))
        line = int(found[1]) if found else max(1, len(text.splitlines()))
        raise CatalogueError(origin, line, f"is not TOML: {_TOML_LINE.sub('', str(error))}") from error


def _read_entry(name: str, entry: Table) -> ModelSpec:
    """Raises InvalidField whose field is the key within the entry."""
    for key in _LIMIT_KEYS:
        if key in entry:
            raise InvalidField(key, f"belongs in limits: write limits.{key} = ... or limits = {{ {key} = ... }}")
    _check_keys(entry, _ENTRY_KEYS, "a key of a model")
    engine = _text(entry, "engine")
    if engine not in ENGINES:
        raise InvalidField("engine", f"{engine[:80]!r} is not an engine; one of {', '.join(ENGINES)}")
    limits = _table(entry.get("limits", {}), "limits")
    _check_keys(limits, _LIMIT_KEYS, "a limit", "limits.")
    context_tokens = _whole(limits, "context_tokens", 0 if engine == OPENAI else DEFAULT_CONTEXT_TOKENS)
    max_tokens = _whole(limits, "max_tokens", min(LARGEST_MAX_TOKENS, context_tokens or MAX_CONTEXT_TOKENS))
    if context_tokens and max_tokens > context_tokens:
        raise InvalidField("limits.max_tokens", f"is {max_tokens}, more than the context of {context_tokens} tokens holds")
    return ModelSpec(
        name=name,
        engine=engine,
        source=_text(entry, "source"),
        size_bytes=_size(entry, engine),
        context_tokens=context_tokens,
        default_max_tokens=_whole(limits, "default_max_tokens", min(DEFAULT_MAX_TOKENS, max_tokens)),
        max_tokens=max_tokens,
        max_parallel=_whole(limits, "parallel", _DEFAULT_PARALLEL.get(engine, 1)),
        sha256=_text(entry, "sha256") if "sha256" in entry else "",
        options=_options(_table(entry.get("options", {}), "options")),
    )


def _check_keys(table: Table, known: Iterable[str], what: str, prefix: str = "") -> None:
    for key in table:
        if key not in known:
            raise InvalidField(f"{prefix}{key}", unknown_key(what, key, known))


def _table(value: object, key: str) -> Table:
    if not isinstance(value, dict):
        raise InvalidField(key, f"must be a table (got {value!r:.80})")
    return value


def _text(entry: Table, key: str) -> str:
    value = entry.get(key)
    if value is None:
        raise InvalidField(key, "is missing")
    if not isinstance(value, str):
        raise InvalidField(key, f"must be a text in quotes (got {value!r:.80})")
    return value


def _whole(limits: Table, key: str, default: int) -> int:
    value = limits.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidField(f"limits.{key}", f"must be a whole number (got {value!r:.80})")
    return value


def _size(entry: Table, engine: str) -> int:
    if "size" not in entry and engine in (OPENAI, LLAMACPP):
        return 0  # nothing here, or what its file says
    value = entry.get("size")
    if value is None:
        raise InvalidField("size", 'is missing; give what the weights would take in memory, such as "253MB"')
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidField("size", f'must be a whole number of bytes or a text such as "253MB" (got {value!r:.80})')
    return parse_size(value)


def _options(table: Table) -> Mapping[str, Option]:
    options: dict[str, Option] = {}
    for key, value in table.items():
        if not isinstance(value, str | int | float | bool):
            raise InvalidField(f"options.{key}", f"must be a text, a number or true/false (got {value!r:.80})")
        options[key] = value
    return MappingProxyType(options)


def default_catalogue_text() -> str:
    """The models.toml that ships with Roost."""
    return files("roost.cluster").joinpath("models.toml").read_text(encoding="utf-8")
