"""Sealed datagrams: AES-256-GCM with a key for each boot, a counter for a nonce, and windows against replays.

Each boot of a node seals with its own subkey, HKDF-SHA256(key, salt = 12 random bytes of the boot), so a counter that starts at 0 never
repeats a nonce; the cluster's name is authenticated with each packet. Invariants: the first key of the ring seals; a window exists only for
boots that have proved to know a key, at most `MAX_BOOTS` of them, and is dropped only when everything it has seen is too old to be
accepted.

    version 1 | key id 4 | boot 12 | counter 6 | wall seconds 4 | ciphertext | tag 16
"""

from __future__ import annotations

import hashlib
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from roost.gossip.protocol.wire import Rejected

KEY_BYTES = 32
BOOT_BYTES = 12
MAX_KEYS = 8  # a rotation needs two
MAX_BOOTS = 8_192  # members and their recent former lives
WINDOW = 4_096  # packets of one boot: a minute of its traffic, longer than a stream may lag behind datagrams
SKEW_S = 30.0

_VERSION = 0x81
_HEAD = struct.Struct(">B4s12sHII")  # version, key id, boot, counter (high, low), wall seconds
_TAG_BYTES = 16
SEAL_BYTES = _HEAD.size + _TAG_BYTES
_MAX_COUNTER = 2**48 - 1


def key_id(key: bytes) -> bytes:
    """Four bytes that name a key without telling anything of it."""
    return hashlib.sha256(b"roost gossip key id" + key).digest()[:4]


class _Boot:
    """One boot of one sender: which counters were seen, and the ciphers made for it."""

    __slots__ = ("_highest", "_seen", "ciphers", "heard_at")

    def __init__(self) -> None:
        self._highest = 0
        self._seen = 0  # bit i: counter _highest - i was seen
        self.ciphers: dict[bytes, AESGCM] = {}
        self.heard_at = 0.0

    def is_fresh(self, counter: int) -> bool:
        behind = self._highest - counter
        return behind < 0 or (behind < WINDOW and not self._seen >> behind & 1)

    def mark(self, counter: int) -> None:
        ahead = counter - self._highest
        if ahead > 0:
            self._seen = ((self._seen << min(ahead, WINDOW)) | 1) & ((1 << WINDOW) - 1)
            self._highest = counter
        else:
            self._seen |= 1 << -ahead


class Keyring:
    """Seals and opens. `boot`: 12 random bytes of this life of the process; `wall_offset_s`: wall clock minus the `now` of the calls."""

    def __init__(self, keys: tuple[bytes, ...], *, cluster: str, boot: bytes, wall_offset_s: float) -> None:
        if len(boot) != BOOT_BYTES:
            raise ValueError(f"boot must have {BOOT_BYTES} bytes")
        self._cluster = cluster.encode()
        self._boot = boot
        self.wall_offset_s = wall_offset_s
        self._keys: dict[bytes, bytes] = {}
        self._boots: dict[bytes, _Boot] = {}  # the longest silent first
        self._counter = 0
        self.set_keys(keys)

    # --- the ring ---

    def set_keys(self, keys: tuple[bytes, ...]) -> None:
        """Accept exactly these keys; seal with the first. Raises ValueError, having changed nothing."""
        if not 1 <= len(keys) <= MAX_KEYS:
            raise ValueError(f"a keyring holds 1-{MAX_KEYS} keys")
        if any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"a key must have {KEY_BYTES} bytes")
        ring = {key_id(key): key for key in keys}
        if len(ring) != len(set(keys)):
            raise ValueError("two keys have one id; make another one")
        self._keys = ring
        self._sealer = self._derive(keys[0], self._boot)
        self._sealer_id = key_id(keys[0])
        for boot in self._boots.values():
            boot.ciphers = {known: cipher for known, cipher in boot.ciphers.items() if known in ring}

    def install(self, key: bytes) -> None:
        """Accept `key` too."""
        self.set_keys((*dict.fromkeys((*self.keys, key)),))

    def use(self, key: bytes) -> None:
        """Seal with an installed key from now on."""
        if key not in self.keys:
            raise ValueError("install the key everywhere before it is used")
        self.set_keys((*dict.fromkeys((key, *self.keys)),))

    def remove(self, key: bytes) -> None:
        """Accept `key` no longer."""
        if key == self.keys[0]:
            raise ValueError("the key is in use; use another one first")
        self.set_keys(tuple(known for known in self.keys if known != key))

    @property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(self._keys.values())

    @property
    def boots(self) -> int:
        return len(self._boots)

    # --- sealing ---

    def seal(self, plain: bytes, kind: bytes, now: float) -> bytes:
        """`plain` sealed; `kind` (datagram or stream) is authenticated with it."""
        self._counter += 1
        if self._counter > _MAX_COUNTER:
            raise OverflowError("a boot may seal 2**48 packets")
        high, low = divmod(self._counter, 2**32)
        wall = int(now + self.wall_offset_s) & 0xFFFF_FFFF
        head = _HEAD.pack(_VERSION, self._sealer_id, self._boot, high, low, wall)
        return head + self._sealer.encrypt(_nonce(self._counter), plain, head + kind + self._cluster)

    def open(self, sealed: bytes, kind: bytes, now: float) -> bytes:
        """What was sealed. Raises Rejected: malformed, version, wrong_key, skewed, replayed, crowded."""
        if len(sealed) < SEAL_BYTES:
            raise Rejected("malformed")
        version, name, boot_id, high, low, sent_at = _HEAD.unpack_from(sealed)
        key = self._keys.get(name)
        if version != _VERSION:
            raise Rejected("version")
        if key is None:
            raise Rejected("wrong_key")
        wall = now + self.wall_offset_s
        if abs(wall - sent_at) > SKEW_S:
            raise Rejected("skewed")
        counter = high << 32 | low
        known = self._boots.get(boot_id)
        if known is not None and not known.is_fresh(counter):
            raise Rejected("replayed")
        boot = known or _Boot()
        cipher = boot.ciphers.get(name) or self._derive(key, boot_id)
        head = sealed[: _HEAD.size]
        try:
            plain = cipher.decrypt(_nonce(counter), sealed[_HEAD.size :], head + kind + self._cluster)
        except InvalidTag:
            raise Rejected("wrong_key") from None
        boot.ciphers[name] = cipher
        self._remember(boot_id, boot, wall)
        boot.mark(counter)
        return plain

    def _remember(self, boot_id: bytes, boot: _Boot, wall: float) -> None:
        """Called only with a boot that has proved to know a key."""
        if self._boots.pop(boot_id, None) is None and len(self._boots) >= MAX_BOOTS:
            longest_silent = next(iter(self._boots))
            if wall - self._boots[longest_silent].heard_at <= 2 * SKEW_S:
                raise Rejected("crowded")
            del self._boots[longest_silent]
        boot.heard_at = wall
        self._boots[boot_id] = boot

    def _derive(self, key: bytes, boot: bytes) -> AESGCM:
        subkey = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=boot, info=b"roost gossip seal").derive(key)
        return AESGCM(subkey)

    def __repr__(self) -> str:
        return f"<Keyring {len(self._keys)} keys, sealing with {self._sealer_id.hex()}, {self.boots} boots>"


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "big")
