"""What keeps a process from starting although its code is right: settings, files, ports. Each is one clear line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NoReturn

EXIT_CANNOT_START = 2


class CannotStart(Exception):
    """Something outside the process must change before it can start. The message is one line that names what, and the fix."""


class PortTaken(CannotStart):
    """The address cannot be listened on."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"cannot listen on {address}: {why}")
        self.address = address
        self.why = why


def refuse_to_start(lines: Iterable[str]) -> NoReturn:
    """Says each line on stderr and exits 2."""
    for line in lines:
        sys.stderr.write(f"{' '.join(line.split())}\n")
    sys.exit(EXIT_CANNOT_START)
