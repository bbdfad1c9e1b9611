"""The file of a model catalogue: read as editors write it, and read again when it was changed."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost.cluster.catalogue import Catalogue, CatalogueError, LiveCatalogue, default_catalogue_text, parse_catalogue
from roost.service.startup import CannotStart

SHIPPED: Final = "the catalogue that ships"
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class Changes:
    """Names, in order, by what became of them."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def outdated(self) -> tuple[str, ...]:
        """What is not any more as it was."""
        return (*self.removed, *self.changed)

    def __bool__(self) -> bool:
        return bool(self.added or self.outdated)


class CatalogueFile:
    """State: the catalogue as it was last read whole, as written and as it lives; a file with a mistake changes nothing."""

    def __init__(self, path: Path | None, variable: str) -> None:
        """Raises CannotStart. `path` None is the catalogue that ships; `variable` is named where the file cannot be read."""
        self._path = path
        self._variable = variable
        self._written = read_catalogue(path, variable)
        self.catalogue = LiveCatalogue(self._written)

    def read(self) -> tuple[Catalogue, Changes]:
        """The file as it is now, and how it differs from what was taken over last. Changes nothing. Raises CannotStart."""
        found = read_catalogue(self._path, self._variable)
        return found, changes_between(self._written, found)

    def take_over(self, found: Catalogue, *, keep: Iterable[str] = ()) -> None:
        """From now on `found`; entries named in `keep` stay although it does not list them."""
        self._written = Catalogue([*(self._written.get(name) for name in keep if name in self._written), *found])
        self.catalogue.become(found, keep=keep)


def changes_between(old: Catalogue, new: Catalogue) -> Changes:
    """By name; an entry has changed where anything of it has."""
    return Changes(
        added=tuple(name for name in new.names if name not in old),
        removed=tuple(name for name in old.names if name not in new),
        changed=tuple(name for name in new.names if name in old and new.get(name) != old.get(name)),
    )


def read_catalogue(path: Path | None, variable: str) -> Catalogue:
    """The catalogue of that file; None: the one that ships. Raises CannotStart, naming the file and the line, or `variable`."""
    try:
        if path is None:
            return parse_catalogue(default_catalogue_text(), SHIPPED)
        return parse_catalogue(decoded(path.expanduser().read_bytes()), str(path))
    except CatalogueError as error:
        raise CannotStart(str(error)) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise CannotStart(f"{path} line {line}: is not UTF-8; save it as UTF-8 ({error.reason})") from error
    except (OSError, RuntimeError) as error:  # the latter: ~ of a user without a home
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotStart(f"models (--models, {variable}): {path} cannot be read: {why}") from error


def decoded(content: bytes) -> str:
    """The text of a file by the byte-order mark that some editors put before it; UTF-8 without one. Raises UnicodeDecodeError."""
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), "utf-8")
    return content.decode(encoding)


def shown(names: Iterable[str], limit: int = 20) -> list[str]:
    """Names for a log line."""
    listed = list(names)
    return listed if len(listed) <= limit else [*listed[:limit], f"and {len(listed) - limit} more"]
