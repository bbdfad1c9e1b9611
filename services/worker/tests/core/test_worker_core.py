"""The worker's core, by its histories: facts in, effects out."""

from __future__ import annotations

from pathlib import Path

import pytest
from core_player import CorePlayer
from histories import check_history, histories_of

HISTORIES = histories_of(Path(__file__).parent / "histories")


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_the_core_does_what_its_history_says(path: Path) -> None:
    check_history(path, CorePlayer().play)


def test_there_are_histories() -> None:
    assert len(HISTORIES) >= 8
