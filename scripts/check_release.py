"""Whether this commit is what a release needs: its version's changelog cut, a clean tree, and the tag's name free."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_VERSION = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_DATED = re.compile(r"(?P<version>\S+) \(\d{4}-\d{2}-\d{2}\)")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a release would be made of. `changes` is git's list of files that differ from the commit; `tags` are those there are."""

    version: str
    changelog: str
    changes: tuple[str, ...]
    tags: frozenset[str]

    @property
    def tag(self) -> str:
        return f"v{self.version}"


def faults(candidate: Candidate) -> Iterator[str]:
    """What stands in the way, each with its fix."""
    if _VERSION.fullmatch(candidate.version) is None:
        yield f"pyproject.toml: version {candidate.version!r} is not like 1.2.3 or 1.2.3rc1"
    if candidate.tag in candidate.tags:
        yield f"the tag {candidate.tag} is there already: raise the version in pyproject.toml"
    yield from _changelog_faults(candidate)
    if candidate.changes:
        yield f"the tree differs from the commit, first in {candidate.changes[0]!r}: commit or put away {len(candidate.changes)} file(s)"


def _changelog_faults(candidate: Candidate) -> Iterator[str]:
    sections = [(match[1], match.end()) for match in _SECTION.finditer(candidate.changelog)]
    if not sections or sections[0][0] != "Unreleased":
        yield 'CHANGELOG.md: the first section is not "## Unreleased": put an empty one there for what comes next'
        return
    starts = [*(start for _, start in sections[1:]), len(candidate.changelog)]
    if "\n- " in candidate.changelog[sections[0][1] : starts[0]]:
        yield f'CHANGELOG.md: entries stand under "## Unreleased": cut them into "## {candidate.version} (YYYY-MM-DD)"'
    elif len(sections) < 2 or not ((found := _DATED.fullmatch(sections[1][0])) and found["version"] == candidate.version):
        yield f'CHANGELOG.md: the second section is not "## {candidate.version} (YYYY-MM-DD)"'


def read_candidate(root: Path) -> Candidate:
    """This checkout as it is."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    return Candidate(project["version"], changelog, _git(root, "status", "--porcelain"), frozenset(_git(root, "tag", "--list")))


def main() -> int:
    """Exit 0 and the tag to set, or 1 and each fault on stderr."""
    candidate = read_candidate(ROOT)
    found = list(faults(candidate))
    for fault in found:
        sys.stderr.write(f"{fault}\n")
    if not found:
        print(f"ready: git tag --annotate {candidate.tag} --message 'Roost {candidate.version}'")
    return 1 if found else 0


def _git(root: Path, *arguments: str) -> tuple[str, ...]:
    told = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)  # noqa: S607 - git as the shell finds it
    return tuple(told.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
