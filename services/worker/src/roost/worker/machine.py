"""What this machine, or the container we are in, has."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # version 2, version 1


def machine_memory_bytes(limits: tuple[Path, ...] = CGROUP_LIMITS) -> int:
    """Bytes of memory: the container's limit where there is one, else the machine's."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *filter(None, map(_limit, limits))])


def _limit(path: Path) -> int | None:
    """None where the file is missing or says "max"."""
    try:
        written = path.read_text().strip()
    except OSError:
        return None
    return int(written) if written.isdecimal() else None
