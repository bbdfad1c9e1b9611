"""What this machine, or the container we are in, has."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY_SHARE = 0.6  # for models; the rest is for this process, for what requests hold, and for everybody else on the machine
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # version 2, version 1


def machine_memory_bytes(limits: tuple[Path, ...] = CGROUP_LIMITS) -> int:
    """Bytes of memory: the container's limit where there is one, else the machine's."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *filter(None, map(_limit, limits))])


def model_memory_bytes(workers: int = 1) -> int:
    """The budget of each of `workers` that share this machine, where nobody says one."""
    return int(machine_memory_bytes() * MEMORY_SHARE) // max(1, workers)


def _limit(path: Path) -> int | None:
    """None where the file is missing or says "max"."""
    try:
        written = path.read_text().strip()
    except OSError:
        return None
    return int(written) if written.isdecimal() else None
