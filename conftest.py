"""No verdict depends on how fast the machine is: Hypothesis measures no example (a test that hangs ends by pytest's own timeout)."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
