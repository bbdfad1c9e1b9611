"""What one Roost service needs, read from the workspace's own pyproject.toml files: third-party requirements and member folders.

Runs on the standard library alone, in the first stage of the Dockerfile, so that an image carries its service's closure and nothing else.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MEMBER_PREFIX = "roost-"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class UnknownPart(Exception):
    """A member or an extra that no pyproject.toml declares."""


@dataclass(frozen=True, slots=True)
class Member:
    """One distribution of the workspace."""

    name: str
    folder: Path
    requirements: tuple[str, ...]
    extras: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Closure:
    """Everything an image installs: members in the order they were reached, third-party requirements sorted."""

    members: tuple[Member, ...]
    requirements: tuple[str, ...]


def read_members(workspace: Path) -> dict[str, Member]:
    """Every member under libs/ and services/, by distribution name."""
    manifests = sorted([*workspace.glob("libs/*/pyproject.toml"), *workspace.glob("services/*/pyproject.toml")])
    return {member.name: member for member in map(_read_member, manifests)}


def closure_of(members: Mapping[str, Member], service: str, extras: Sequence[str]) -> Closure:
    """What `roost-<service>` with these extras needs. Raises UnknownPart naming what there is."""
    root = _member(members, MEMBER_PREFIX + service)
    pending = [*root.requirements, *_extra_requirements(root, extras)]
    reached = {root.name: root}
    third_party: set[str] = set()
    while pending:
        requirement = pending.pop(0)
        name = _distribution(requirement)
        if not name.startswith(MEMBER_PREFIX):
            third_party.add(requirement)
        elif name not in reached:
            reached[name] = _member(members, name)
            pending.extend(reached[name].requirements)
    return Closure(tuple(reached.values()), tuple(sorted(third_party)))


def write_closure(closure: Closure, target: Path) -> None:
    """`target`/requirements.txt and `target`/members/<name>/ with each member's sources."""
    target.mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns("tests", "__pycache__", "*.egg-info")
    (target / "requirements.txt").write_text("".join(f"{line}\n" for line in closure.requirements), encoding="utf-8")
    for member in closure.members:
        shutil.copytree(member.folder, target / "members" / member.name, ignore=ignored)


def main(arguments: Sequence[str]) -> int:
    """Exit 0, or 2 with one line on stderr where a part is unknown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service")
    parser.add_argument("target", type=Path)
    parser.add_argument("--extras", default="", help="comma-separated extras of the service")
    parser.add_argument("--workspace", type=Path, default=Path())
    options = parser.parse_args(arguments)
    extras = [extra.strip() for extra in options.extras.split(",") if extra.strip()]
    try:
        closure = closure_of(read_members(options.workspace), options.service, extras)
    except UnknownPart as unknown:
        sys.stderr.write(f"{unknown}\n")
        return 2
    write_closure(closure, options.target)
    return 0


def _read_member(manifest: Path) -> Member:
    project = tomllib.loads(manifest.read_text(encoding="utf-8"))["project"]
    extras = {name: tuple(lines) for name, lines in project.get("optional-dependencies", {}).items()}
    return Member(project["name"], manifest.parent, tuple(project.get("dependencies", ())), extras)


def _member(members: Mapping[str, Member], name: str) -> Member:
    if name not in members:
        raise UnknownPart(f"{name}: no such member; there are {_listed(members)}")
    return members[name]


def _extra_requirements(member: Member, extras: Sequence[str]) -> Iterator[str]:
    for extra in extras:
        if extra not in member.extras:
            raise UnknownPart(f"{member.name}: no extra {extra!r}; there are {_listed(member.extras)}")
        yield from member.extras[extra]


def _distribution(requirement: str) -> str:
    """The distribution's name of a requirement line, in the normal form of PEP 503."""
    found = _NAME.match(requirement)
    if found is None:
        raise UnknownPart(f"{requirement!r}: not a requirement")
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
