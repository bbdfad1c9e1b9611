"""Where a cluster is called: host:port texts, checked once, and the order in which several are tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roost.cluster.errors import InvalidField

DEFAULT_TARGET = "127.0.0.1:9000"
MAX_TARGETS = 64  # each may cost one connection attempt before a call fails


@dataclass(frozen=True, slots=True)
class Target:
    """One address. `host` has no brackets; `str()` is what gRPC dials."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(text: str, field: str = "coordinator") -> Target:
    """HOST:PORT or [IPv6]:PORT as a Target. Raises InvalidField that shows what was given."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not host or not port:
        raise InvalidField(field, f"must be HOST:PORT, such as {DEFAULT_TARGET} (got {text!r})")
    if not (port.isascii() and port.isdecimal()) or len(port) > 5 or not 1 <= int(port) <= 65535:
        raise InvalidField(field, f"has no port 1-65535 after its last colon (got {text!r})")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InvalidField(field, f"must be HOST:PORT, or [ADDRESS]:PORT for IPv6 (got {text!r})")
    if not host or any(character.isspace() or character in "/[]@?#" for character in host):
        raise InvalidField(field, f"must be HOST:PORT without a scheme or path (got {text!r})")
    return Target(host, int(port))


def parse_targets(texts: Sequence[str] | str) -> tuple[Target, ...]:
    """Every target of `texts`, each of which may hold several with commas or spaces between; doubles are dropped. Raises InvalidField."""
    joined = texts if isinstance(texts, str) else " ".join(texts)
    targets = tuple(dict.fromkeys(parse_target(text) for text in joined.replace(",", " ").split()))
    if not targets:
        raise InvalidField("coordinator", f"is empty; give HOST:PORT, such as {DEFAULT_TARGET}")
    if len(targets) > MAX_TARGETS:
        raise InvalidField("coordinator", f"names {len(targets)} addresses; at most {MAX_TARGETS} are allowed")
    return targets


class TargetOrder:
    """Which target is tried first. State: the position of the last one that answered, always valid; the rest follow in the given order."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(targets)
        self._good = 0

    def __iter__(self) -> Iterator[Target]:
        good = self.targets[self._good]
        yield good
        yield from (target for target in self.targets if target != good)

    def __len__(self) -> int:
        return len(self.targets)

    def prefer(self, target: Target) -> None:
        """`target` answered: it is tried first from now on."""
        self._good = self.targets.index(target)

    def __repr__(self) -> str:
        return f"<TargetOrder {', '.join(map(str, self))}>"
