"""What of a processor changes the last bits of a sum: which vector instructions there are."""

from __future__ import annotations

import hashlib
import platform
import re
from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")
# What ggml's variants for processors are chosen by: x86 names first, then Arm's.
_CHOSEN_BY: Final = re.compile(r"sse4_2|f16c|fma|bmi2|avx\w*|amx\w*|asimddp|asimdhp|i8mm|bf16|sve\w*|sme\w*")


def processor(cpuinfo: Path = CPUINFO) -> str:
    """The architecture and a short digest of its vector instructions; the architecture alone where the system does not list them."""
    try:
        text = cpuinfo.read_text("utf-8", "replace")
    except OSError:
        return platform.machine()
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    if flags is None:
        return platform.machine()
    chosen = sorted({flag for flag in flags[1].split() if _CHOSEN_BY.fullmatch(flag)})
    return f"{platform.machine()}-{hashlib.sha256(' '.join(chosen).encode()).hexdigest()[:8]}"
