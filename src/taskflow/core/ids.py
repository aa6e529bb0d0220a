"""Identifiers. Task ids are UUIDv7 (RFC 9562 §5.7): they sort by creation, so a page is an index range."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable

_RAND_A_BITS = 12
_RAND_B_BITS = 62
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_RANDOM_POOL_BYTES = 8 * 512


class UUID7:
    """Makes UUIDv7 strings that never go backwards within one instance, whatever the clock does.

    The 12 bits after the millisecond count up within it (RFC 9562 §6.2 method 1); when they overflow, or the clock
    steps back, the timestamp runs ahead of the clock. Thread safe, and safe to use on both sides of a fork.
    ``random_bytes`` defaults to `os.urandom`.
    """

    def __init__(
        self, now_ms: Callable[[], int], random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._lock = threading.Lock()
        self._last = 0  # milliseconds << 12 | counter
        self._pool = b""
        self._offset = 0
        if hasattr(os, "register_at_fork"):
            this = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _part_from_parent(this()))

    def __call__(self) -> str:
        """The next id, e.g. ``0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11``."""
        with self._lock:
            current = self._now_ms() << _RAND_A_BITS
            self._last = current if current > self._last else self._last + 1
            stamp = self._last
            if self._offset >= len(self._pool):
                self._pool = self._random_bytes(_RANDOM_POOL_BYTES)
                self._offset = 0
            tail = int.from_bytes(self._pool[self._offset : self._offset + 8], "big")
            self._offset += 8
        milliseconds, counter = stamp >> _RAND_A_BITS, stamp & 0xFFF
        tail = tail & ((1 << _RAND_B_BITS) - 1) | (0b10 << _RAND_B_BITS)
        digits = f"{milliseconds:012x}7{counter:03x}{tail:016x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _part_from_parent(ids: UUID7 | None) -> None:
    """After a fork both processes have the same random bytes ahead, and a thread left behind may hold the lock."""
    if ids is not None:
        ids._lock = threading.Lock()
        ids._pool = b""
        ids._offset = 0


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a lower-case hyphenated UUID, the only spelling the API hands out and accepts."""
    return _UUID.fullmatch(text) is not None


def first_id(milliseconds: int) -> str:
    """No UUIDv7 of this Unix millisecond, or of a later one, sorts before it: the start of a range of ids."""
    digits = f"{min(max(milliseconds, 0), 2**48 - 1):012x}"
    return f"{digits[:8]}-{digits[8:]}-0000-0000-000000000000"
