"""What `make release` lets through and what it stops, with the words that say how to go on."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CUT = "# Changelog\n\n## Unreleased\n\n## 1.2.0 (2026-11-30)\n\n- Something.\n"


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_release", ROOT / "scripts/check_release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_release"] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


def test_a_cut_changelog_a_clean_tree_and_a_new_tag_are_a_release(release: ModuleType) -> None:
    candidate = release.Candidate("1.2.0", CUT, (), frozenset({"v1.1.0"}))
    assert list(release.faults(candidate)) == []
    assert candidate.tag == "v1.2.0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": "1.2"}, "is not like 1.2.3"),
        ({"tags": frozenset({"v1.2.0"})}, "v1.2.0 is there already"),
        ({"changes": (" M README.md", "?? x")}, "2 file(s)"),
        ({"changelog": CUT.replace("## 1.2.0 (2026-11-30)\n\n", "")}, "entries stand under"),
        ({"changelog": CUT.replace("1.2.0 (", "1.1.0 (")}, "the second section is not"),
        ({"changelog": CUT.replace(" (2026-11-30)", "")}, "the second section is not"),
        ({"changelog": "# Changelog\n"}, "the first section is not"),
    ],
)
def test_whatever_a_release_lacks_is_told_with_its_fix(release: ModuleType, change: dict[str, Any], words: str) -> None:
    good = release.Candidate("1.2.0", CUT, (), frozenset())
    told = list(release.faults(replace(good, **change)))
    assert any(words in fault for fault in told), told
