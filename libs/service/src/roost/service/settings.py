"""Settings: read once, flags before environment before defaults, into one frozen object that cannot be out of bounds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin

from pydantic import Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from roost.cluster.errors import InvalidField
from roost.service.startup import CannotStart, refuse_to_start
from roost.service.tls import TlsFiles

MAX_SHOWN = 80  # characters of a bad value that are worth showing
_BOUND_WORDS = (
    ("gt", "above {}"),
    ("ge", "{} or more"),
    ("lt", "below {}"),
    ("le", "{} or less"),
    ("min_length", "{} or more long"),
    ("max_length", "{} or less long"),
)


class ServiceSettings(BaseSettings):
    """What every service has. A service adds its own fields, its own `env_prefix`, and its own default ports.

    A field's flag is its name with dashes; `json_schema_extra={"flag": "--memory"}` gives it another. Each field has a description
    with its unit, a bound and a default.
    """

    model_config = SettingsConfigDict(frozen=True, env_prefix="ROOST_", extra="forbid", validate_default=True, populate_by_name=True)

    host: str = Field("127.0.0.1", min_length=1, max_length=253, description="address to listen on; 0.0.0.0 for every IPv4 interface")
    port: int = Field(0, ge=0, le=65535, description="gRPC port; 0 for any free one")
    metrics_host: str = Field("127.0.0.1", min_length=1, max_length=253, description="address that serves /metrics")
    metrics_port: int = Field(0, ge=0, le=65535, description="port of /metrics; 0 for any free one")
    log_file: Path | None = Field(None, description="file to append the log to, instead of stderr")
    log_format: Literal["console", "json"] = Field("console", description="lines for people, or one JSON object a line")
    verbose: bool = Field(False, description="log at debug level")
    tls_certificate: Path | None = Field(None, description="PEM file with the server's certificate chain; turns TLS on")
    tls_key: Path | None = Field(None, description="PEM file with the certificate's key")
    tls_authority: Path | None = Field(None, description="PEM file of the authority that clients' certificates must come from")

    @field_validator("*")
    @classmethod
    def _expand_home(cls, value: object) -> object:
        """A file named in the environment or a unit file begins with ~ as well, and no shell has seen it."""
        return _at_home(value) if isinstance(value, Path) else value

    @property
    def tls(self) -> TlsFiles | None:
        """None where the server speaks plain text."""
        if self.tls_certificate is None and self.tls_key is None:
            return None
        return TlsFiles(certificate=self.tls_certificate, key=self.tls_key, authority=self.tls_authority)


def _at_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"has a ~ that is nobody's home: {path}") from error


S = TypeVar("S", bound=BaseSettings)


class BadSettings(CannotStart):
    """One or more settings make no sense; `problems` has a line for each that names the field and the fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def read_settings(cls: type[S], overrides: Mapping[str, object]) -> S:
    """The settings, or one line for each bad field on stderr and exit 2."""
    try:
        return parse_settings(cls, overrides)
    except BadSettings as error:
        refuse_to_start(error.problems)


def parse_settings(cls: type[S], overrides: Mapping[str, object]) -> S:
    """`overrides` (by field name) before the environment before the defaults. Raises BadSettings."""
    try:
        return cls.model_validate(dict(overrides))
    except ValidationError as error:
        raise BadSettings([_problem(cls, details) for details in error.errors(include_url=False)]) from error
    except InvalidField as error:
        raise BadSettings([f"{_sources(cls, error.field)}: {error.problem}"]) from error
    except SettingsError as error:
        raise BadSettings([f"{error}: {error.__cause__}"]) from error


def command_line(cls: type[BaseSettings], argv: Sequence[str], prog: str, description: str | None = None) -> dict[str, object]:
    """What `argv` (without the program's name) sets, by field name; feed it to `read_settings`. Exits on --help and wrong usage."""
    parser = argparse.ArgumentParser(prog=prog, description=description, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    for name, field in cls.model_fields.items():
        _add_flag(parser, cls, name, field)
    return vars(parser.parse_args(argv))


def settings_table(cls: type[BaseSettings]) -> str:
    """Markdown: flag, environment variable, default, bounds and meaning of each field."""
    rows = [_row(cls, name, field) for name, field in cls.model_fields.items()]
    return "\n".join(["| Flag | Environment | Default | Range | Meaning |", "| --- | --- | --- | --- | --- |", *rows])


def _row(cls: type[BaseSettings], name: str, field: FieldInfo) -> str:
    cells = (f"`{_flag(name, field)}`", f"`{_variable(cls, name)}`", _default(field) or "none", _bounds(field), field.description or "")
    return f"| {' | '.join(cells)} |"


# --- one field ------------------------------------------------------------------------------------


def _flag(name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    flag = extra.get("flag") if isinstance(extra, dict) else None
    return flag if isinstance(flag, str) else f"--{name.replace('_', '-')}"


def _variable(cls: type[BaseSettings], name: str) -> str:
    field = cls.model_fields[name]
    if isinstance(field.validation_alias, str):  # pydantic-settings reads an alias without the prefix
        return field.validation_alias.upper()
    return f"{cls.model_config.get('env_prefix', '')}{name}".upper()


def _sources(cls: type[BaseSettings], name: str) -> str:
    by_alias = {field.validation_alias: known for known, field in cls.model_fields.items()}
    known = name if name in cls.model_fields else by_alias.get(name)
    return f"{known} ({_flag(known, cls.model_fields[known])}, {_variable(cls, known)})" if known else name


def _problem(cls: type[BaseSettings], details: ErrorDetails) -> str:
    name = str(details["loc"][0]) if details["loc"] else "settings"
    if details["type"] == "missing":
        return f"{_sources(cls, name)}: is required"
    if details["type"] == "extra_forbidden":
        return f"{name}: is no setting"
    message = details["msg"].removeprefix("Value error, ")
    return f"{_sources(cls, name)}: {message[:1].lower()}{message[1:]} (got {str(details['input'])[:MAX_SHOWN]!r})"


def _add_flag(parser: argparse.ArgumentParser, cls: type[BaseSettings], name: str, field: FieldInfo) -> None:
    default = _default(field)
    shown = f"default {default}, " if default else ""
    text = f"{field.description or ''} ({shown}environment {_variable(cls, name)})".replace("%", "%%")
    flag, kind = _flag(name, field), _kind(field)
    metavar = name.rpartition("_")[2].upper()
    if kind is bool:
        parser.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, help=text)
    elif choices := _choices(field):
        parser.add_argument(flag, dest=name, choices=choices, help=text)
    elif get_origin(kind) in (tuple, list):
        parser.add_argument(flag, dest=name, action="append", metavar=metavar, help=f"{text}; may be given several times")
    else:
        parser.add_argument(flag, dest=name, metavar=metavar, help=text)


def _kind(field: FieldInfo) -> object:
    """The annotation without its None."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    is_optional = type(None) in get_args(field.annotation)
    return kinds[0] if is_optional and len(kinds) == 1 else field.annotation


def _choices(field: FieldInfo) -> tuple[str, ...]:
    kind = _kind(field)
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default: object = field.default if field.default_factory is None else field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, bool):
        return "on" if default else "off"
    return "" if default is None or default == () else str(default)


def _bounds(field: FieldInfo) -> str:
    if choices := _choices(field):
        return ", ".join(choices)
    return ", ".join(_limits(field)) or "any"


def _limits(field: FieldInfo) -> Iterator[str]:
    for constraint in field.metadata:
        for attribute, word in _BOUND_WORDS:
            limit = getattr(constraint, attribute, None)
            if limit is not None:
                yield word.format(limit)
