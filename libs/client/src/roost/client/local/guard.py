"""Outlives a `roost up` that dies without warning (kill -9, a crash) and ends the processes it leaves.

Run by path as a process of its own, with nothing but the standard library. It reads "+GROUP" and "-GROUP" lines (process groups
that live, and that have ended) from stdin; at the end of stdin it ends the groups that are left: SIGTERM, then SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TERM_BOUND_S = 3.0  # after this the groups that are left are killed
POLL_S = 0.05


def signal_group(group: int, number: int) -> bool:
    """Whether a process of that group was there to be told."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_groups(groups: set[int]) -> None:
    """SIGTERM to all, SIGKILL to those that are left after the bound."""
    left = {group for group in groups if signal_group(group, signal.SIGTERM)}
    deadline = time.monotonic() + TERM_BOUND_S
    while left and time.monotonic() < deadline:
        time.sleep(POLL_S)
        left = {group for group in left if signal_group(group, 0)}
    for group in left:
        signal_group(group, signal.SIGKILL)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when its stdin does, and not before
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    end_groups(groups)


if __name__ == "__main__":
    main()
