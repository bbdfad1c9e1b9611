"""The `roost` command's entry, which is there without the packages that the command needs: then it says so."""

from __future__ import annotations

import sys

from roost.client.extras import advice, missing_extra

_EXIT_NOT_INSTALLED = 1


def main() -> None:
    """Runs the command, or exits 1 with one line that names the extra to install."""
    extra = missing_extra("roost.client.cli")
    if extra is not None:
        sys.stderr.write(f"{advice({extra})}\n")
        sys.exit(_EXIT_NOT_INSTALLED)
    from roost.client.cli.app import main as run  # noqa: PLC0415 - it imports what may be absent

    run()
