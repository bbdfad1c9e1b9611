"""Lines of a recording, read back. What cannot be understood is an error that names its line; a torn last line is only noted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

from roost.cluster.errors import InvalidField
from roost.placement.recording import earlier, events
from roost.placement.recording.beginning import origin_of, snapshot_of, terms_of
from roost.placement.recording.lines import Lines
from roost.placement.recording.worker_json import Fields
from roost.placement.recording.writing import FORMAT, MARK

FORMATS: Final = (earlier.FORMAT, FORMAT)


class BadRecording(InvalidField):
    """What was read is no recording, or not one that can be replayed. The message says where and why."""

    def __init__(self, problem: str) -> None:
        super().__init__("file", problem)


class Reader:
    """Reads one file. State: where it is; `note` says how the file ended, "" if as it should."""

    def __init__(self) -> None:
        self.note = ""
        self.line = 0  # the number of the line read last, from 1
        self._lines = Lines("", FORMAT)

    def read(self, lines: Iterable[str]) -> Iterator[events.Beginning | events.Event | earlier.Event]:
        """The beginning, then what happened. Raises BadRecording."""
        numbered = iter(lines)
        yield self._beginning(self._next(numbered), self._next(numbered))
        for text in numbered:
            self.line += 1
            fields = self._fields(text, is_last_chance=not text.endswith("\n"))
            if fields is None:
                return
            if fields.get("op") == "end":
                self.note = str(fields.get("why", ""))
                continue
            yield self._event(fields)

    def _next(self, lines: Iterator[str]) -> str:
        self.line += 1
        return next(lines, "")

    def _beginning(self, head: str, state: str) -> events.Beginning:
        about = self._head(head)
        if not state.endswith("\n"):
            raise BadRecording("was cut off before all that its decider knew was written; nothing can be replayed")
        try:
            terms, origin, seed = terms_of(about, int(str(about[MARK]))), origin_of(about), int(str(about["seed"]))
            self._lines = Lines(terms.policy, int(str(about[MARK])))
        except (KeyError, TypeError, ValueError, InvalidField) as error:
            self.line = 1
            raise self._bad(error) from error
        fields = self._fields(state)
        if fields is None or fields.get("op") != "state":
            raise BadRecording("line 2: is not what the decider knew")
        try:
            known = snapshot_of(fields)
        except (KeyError, TypeError, ValueError, IndexError, InvalidField) as error:
            raise self._bad(error) from error
        self._lines.begin(known.view.entries, [each.source for each in known.view.shared], known.lines)
        return events.Beginning(terms, origin, seed, known)

    def _head(self, text: str) -> Fields:
        try:
            head = json.loads(text)
        except ValueError:
            head = None
        if not isinstance(head, dict) or MARK not in head:
            raise BadRecording("is not a recording of decisions; those are made by --record of the coordinator or of a sidecar")
        if head[MARK] not in FORMATS:
            read = " and ".join(map(str, FORMATS))
            raise BadRecording(f"is of format {head[MARK]}, and this version of Roost reads formats {read}; use the one that wrote it")
        return head

    def _fields(self, text: str, *, is_last_chance: bool = False) -> Fields | None:
        """None for a line that was not written to its end: the last one of a process that was killed."""
        try:
            fields = json.loads(text)
        except ValueError as error:
            if is_last_chance:
                self.note = f"line {self.line} was not written to its end; it is left out"
                return None
            raise self._bad(error) from error
        if not isinstance(fields, dict):
            raise BadRecording(f"line {self.line}: is no object")
        return fields

    def _event(self, fields: Fields) -> events.Event | earlier.Event:
        kind = self._lines.kinds.get(str(fields.pop("op", "")))
        if kind is None:
            raise BadRecording(f"line {self.line}: is of no kind that is known here")
        try:
            return kind(fields)
        except (KeyError, TypeError, ValueError, IndexError, InvalidField) as error:
            raise self._bad(error) from error

    def _bad(self, error: Exception) -> BadRecording:
        return BadRecording(f"line {self.line}: cannot be understood ({type(error).__name__}: {error})")
