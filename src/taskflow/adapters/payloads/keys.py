"""Which texts are payload keys: the same on every adapter, so that what is stored on one can be moved to another."""

from __future__ import annotations

import re

from taskflow.core.errors import InvalidRequestError

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")  # file systems take 255 bytes
SHARD_CHARS = 2


def names_of(key: str) -> list[str]:
    """The names a key is made of. Raises InvalidRequestError unless it is one (see `PayloadStore`)."""
    names = checked_names(key, key)
    if not _fit(names):
        raise InvalidRequestError(
            f"payload key {key!r}: must be tenant/…/name, names between them longer than {SHARD_CHARS} characters"
        )
    return names


def names_of_prefix(prefix: str) -> list[str]:
    """The whole names at the start of ``prefix``. Raises InvalidRequestError unless each could be a part of a key."""
    directory, _, _ = prefix.rpartition("/")
    return checked_names(prefix, directory) if directory else []


def is_key(text: str) -> bool:
    names = text.split("/")
    return all(NAME.fullmatch(name) for name in names) and _fit(names)


def checked_names(key: str, path: str) -> list[str]:
    """The names ``path`` is made of. Raises InvalidRequestError unless each could be a part of a key."""
    names = path.split("/")
    for name in names:
        if NAME.fullmatch(name) is None:
            raise InvalidRequestError(
                f"payload key {key!r}: {name!r} is not 1 to 200 of A-Z a-z 0-9 . _ - (no dot first)"
            )
    return names


def _fit(names: list[str]) -> bool:
    return len(names) > 1 and all(len(name) > SHARD_CHARS for name in names[1:-1])
