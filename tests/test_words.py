"""What the code tells people to type must not be a name that is nobody's yet: whoever takes it would be installed."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_ADVICE = re.compile(r"(pip install|install the distribution|install)\s+['\"]?roost[-_.]\w+")


def test_no_message_advises_to_install_a_name_that_is_like_ours() -> None:
    sources = [path for folder in ("libs", "services", "sim") for path in (ROOT / folder).glob("**/src/**/*.py")]
    found = [f"{path.relative_to(ROOT)}: {match[0]}" for path in sources for match in _ADVICE.finditer(path.read_text("utf-8"))]
    assert len(sources) > 100
    assert found == []
