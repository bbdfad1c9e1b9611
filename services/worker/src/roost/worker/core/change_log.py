"""Which names have changed since when: for readers that come by now and then, each at its own pace."""

from __future__ import annotations

from itertools import takewhile

MAX_NAMES = 2_048  # remembered; who asks about what lies further back than the last so many must look at everything


class ChangeLog:
    """State: `version`, which counts the changes, and the version of each name's last change, latest last."""

    __slots__ = ("_changed_at", "_forgotten", "version")

    def __init__(self) -> None:
        self.version = 0
        self._changed_at: dict[str, int] = {}
        self._forgotten = 0  # the version of the last change that is not remembered

    def changed(self, name: str) -> None:
        self.version += 1
        changed_at = self._changed_at
        changed_at.pop(name, None)
        changed_at[name] = self.version
        if len(changed_at) > MAX_NAMES:
            self._forgotten = changed_at.pop(next(iter(changed_at)))

    def since(self, version: int) -> tuple[str, ...] | None:
        """The names that have changed after that version, in no order that means anything; None if that is not remembered."""
        if version < self._forgotten:
            return None
        newer = takewhile(lambda change: change[1] > version, reversed(self._changed_at.items()))
        return tuple([name for name, _ in newer])

    def __repr__(self) -> str:
        return f"<ChangeLog v={self.version}, {len(self._changed_at)} names>"
