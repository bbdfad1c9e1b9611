"""The key file and the ring: what an operator may change of the keys while the sidecar runs.

A key file has one key a line, 32 bytes in base64, the one that seals first; lines that begin with # are comments.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from roost.cluster.errors import InvalidField
from roost.gossip.keyring import KEY_BYTES, MAX_KEYS, Keyring, key_id
from roost.service.logs import Logger
from roost.service.startup import CannotStart

MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class KeyName:
    """A key as it may be shown."""

    key_id: str
    is_in_use: bool


def read_key_file(path: Path) -> tuple[bytes, ...]:
    """The keys, the one that seals first. Raises CannotStart, naming the file and the line; never shows a key."""
    try:
        with path.open(encoding="ascii") as file:
            lines = file.read(MAX_FILE_BYTES).splitlines()
    except (OSError, UnicodeError) as error:
        raise CannotStart(f"key_file (--key-file, ROOST_GOSSIP_KEY_FILE): {path} cannot be read: {error}") from error
    keys = tuple(_key(line, f"{path} line {number}") for number, line in enumerate(lines, 1) if line.strip() and line[:1] != "#")
    if not 1 <= len(set(keys)) <= MAX_KEYS:
        raise CannotStart(f"key_file (--key-file, ROOST_GOSSIP_KEY_FILE): {path} has {len(set(keys))} keys; it must have 1-{MAX_KEYS}")
    return tuple(dict.fromkeys(keys))


def _key(line: str, where: str) -> bytes:
    try:
        key = base64.b64decode(line.strip(), validate=True)
    except binascii.Error as error:
        raise CannotStart(f"{where}: is no base64; make a key with: roost keys generate") from error
    if len(key) != KEY_BYTES:
        raise CannotStart(f"{where}: a key has {KEY_BYTES} bytes, this has {len(key)}; make one with: roost keys generate")
    return key


class Keys:
    """`ring` None: the cluster is not encrypted, and there is nothing to change."""

    def __init__(self, ring: Keyring | None, path: Path | None, log: Logger) -> None:
        self._ring = ring
        self._path = path
        self._log = log

    def names(self) -> list[KeyName]:
        """The key in use first."""
        if self._ring is None:
            return []
        return [KeyName(key_id(key).hex(), position == 0) for position, key in enumerate(self._ring.keys)]

    def install(self, key: bytes) -> tuple[str, bool]:
        """The key's name, and whether it was saved. Raises InvalidField."""
        ring = self._encrypted()
        with _refusing("key"):
            ring.install(key)
        return key_id(key).hex(), self._changed("key_installed", key)

    def use(self, name: str) -> bool:
        """Whether it was saved. Raises InvalidField."""
        ring, key = self._encrypted(), self._find(name)
        with _refusing("key_id"):
            ring.use(key)
        return self._changed("key_in_use", key)

    def remove(self, name: str) -> bool:
        """Whether it was saved. Raises InvalidField."""
        ring, key = self._encrypted(), self._find(name)
        with _refusing("key_id"):
            ring.remove(key)
        return self._changed("key_removed", key)

    def _encrypted(self) -> Keyring:
        if self._ring is None:
            raise InvalidField("key", "this cluster is not encrypted; start its sidecars with --key-file")
        return self._ring

    def _find(self, name: str) -> bytes:
        for key in self._encrypted().keys:
            if key_id(key).hex() == name:
                return key
        raise InvalidField("key_id", f"names no key of this sidecar (got {name[:16]!r}); roost keys list shows them")

    def _changed(self, event: str, key: bytes) -> bool:
        saved = self._save(self._encrypted().keys)
        self._log.info(event, key_id=key_id(key).hex(), saved=saved)
        return saved

    def _save(self, keys: Sequence[bytes]) -> bool:
        """Writes the file anew, at once and as a whole. A read-only one stays as it is, and the operator is told."""
        if self._path is None:
            return False
        text = "".join(f"{base64.b64encode(key).decode()}\n" for key in keys)
        try:
            with tempfile.NamedTemporaryFile("w", dir=self._path.resolve().parent, prefix=f".{self._path.name}.", delete=False) as file:
                file.write(text)
            path = self._path.resolve()  # what a link names is replaced, not the link
            Path(file.name).chmod(stat.S_IMODE(path.stat().st_mode) & ~stat.S_IRWXO)  # as it was, but nobody else's
            Path(file.name).replace(path)
        except OSError as error:
            self._log.warning("key_file_not_written", path=str(self._path), why=error.strerror)
            return False
        return True


@contextlib.contextmanager
def _refusing(field: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InvalidField(field, str(error)) from error
