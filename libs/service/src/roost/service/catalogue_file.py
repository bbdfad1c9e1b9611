"""Reading the file of the models that a decider knows before any worker has told it of its own."""

from __future__ import annotations

from pathlib import Path

from roost.cluster.catalogue import Catalogue, CatalogueError, default_catalogue_text, parse_catalogue
from roost.service.startup import CannotStart


def read_catalogue(path: Path | None, variable: str) -> Catalogue:
    """The catalogue of that file; None: the one that ships. Raises CannotStart, naming the file and the line, or `variable`."""
    try:
        return parse_catalogue(default_catalogue_text() if path is None else path.read_text(encoding="utf-8"), str(path or "models.toml"))
    except CatalogueError as error:
        raise CannotStart(str(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"models (--models, {variable}): {path} cannot be read: {error}") from error
