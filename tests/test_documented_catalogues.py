"""Every model catalogue in the documents is one that Roost reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roost.cluster.catalogue import parse_catalogue

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "deploy/README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    (path, block)
    for path in DOCUMENTS
    for block in re.findall(r"^```toml\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    if "[models" in block
]


@pytest.mark.parametrize(("path", "block"), BLOCKS, ids=[f"{path.name}-{number}" for number, (path, _) in enumerate(BLOCKS)])
def test_a_catalogue_in_a_document_is_read(path: Path, block: str) -> None:
    assert len(parse_catalogue(block, str(path))) >= 1


def test_there_are_some() -> None:
    assert BLOCKS
