"""PayloadStore on a directory: one file an object, whole or absent, its checksum in its first line.

Where things are: the object ``default/input/0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11`` is the file
``default/input/11/0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11``. The extra directory is named after the last two characters
before the name's first dot. Those of a UUIDv7 are random, so 256 directories share the load; its first ones are a
clock, which would put everything of one day into the same place.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from taskflow.adapters.payloads.errors import reading, writing
from taskflow.adapters.payloads.keys import NAME, SHARD_CHARS, names_of, names_of_prefix
from taskflow.core.errors import PayloadCorruptError, PayloadMissingError

_TEMPORARY = ".tmp-"  # no key has a name that starts with a dot
_STALE_SECONDS = 3_600.0  # far beyond what writing one payload can take
_HEADER = re.compile(rb"taskflow-payload 1 sha256=([0-9a-f]{64}) bytes=(\d{1,15})\n")
_HEADER_BYTES = 128  # more than the longest header
_List = list  # inside a class with a method `list` the name no longer means the type


class FilePayloads:
    """PayloadStore under ``root``, made when first needed. Safe for any number of threads and processes.

    A write goes to a temporary file beside its target, is flushed to the disk, and then renamed over it, so a reader
    sees the old object or the new one. A process that dies while it writes leaves at most a temporary file, which
    `unfinished` finds.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Durable once this returns. An object that exists is replaced as a whole.

        When it raises, each object is either as it was or as it should be.
        """
        targets = {key: self._path(key) for key in objects}
        with writing(self._root):
            written: list[tuple[Path, Path]] = []
            try:
                for key, data in objects.items():
                    written.append((self._write_temporary(targets[key].parent, data), targets[key]))
                for temporary, target in written:
                    temporary.replace(target)
            except BaseException:
                for temporary, _ in written:
                    temporary.unlink(missing_ok=True)
                raise
            for directory in {target.parent for target in targets.values()}:
                _sync_directory(directory)

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Raises PayloadMissingError or PayloadCorruptError naming the key."""
        return {key: self._read(key) for key in keys}

    def delete(self, keys: Sequence[str]) -> None:
        """Missing keys are ignored. A power cut may bring a deleted object back."""
        paths = [self._path(key) for key in keys]
        with writing(self._root):
            for path in paths:
                try:
                    path.unlink()
                except (FileNotFoundError, NotADirectoryError):
                    continue

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys under ``prefix``, in no particular order: those there throughout, and some that come or go meanwhile."""
        names = names_of_prefix(prefix)
        for key in self._walk(self._root.joinpath(*names), names):
            if key.startswith(prefix):
                yield key

    def url(
        self, key: str, seconds: float, *, content_type: str, filename: str | None = None
    ) -> str | None:
        """Files have no address that others could open."""
        names_of(key)
        return None

    def close(self) -> None:
        """Nothing is held open."""

    def unfinished(self, *, remove: bool = False) -> _List[str]:
        """Temporary files of writers that died more than an hour ago, by the file system's own clock."""
        stale: list[str] = []
        with writing(self._root):
            if not self._root.is_dir():
                return stale
            probe = self._write_temporary(self._root, b"")
            stale_before = probe.stat().st_mtime - _STALE_SECONDS
            probe.unlink()
            for path in self._root.rglob(f"{_TEMPORARY}*"):
                try:
                    if path.stat().st_mtime < stale_before:
                        if remove:
                            path.unlink()
                        stale.append(str(path))
                except FileNotFoundError:
                    continue  # somebody else cleared it away
        return stale

    def _path(self, key: str) -> Path:
        *directories, name = names_of(key)
        return self._root.joinpath(*directories, _shard(name), name)

    def _read(self, key: str) -> bytes:
        path = self._path(key)
        with reading(self._root):
            try:
                with path.open("rb", buffering=0) as file:
                    header = _HEADER.match(file.read(_HEADER_BYTES))
                    if header is None:
                        raise PayloadCorruptError(f"payload {key}: its first line is damaged")
                    file.seek(header.end())
                    data = file.readall()  # once in memory, however large
            except (FileNotFoundError, NotADirectoryError):
                raise PayloadMissingError(f"payload {key} is not in {self._root}") from None
        if len(data) != int(header[2]):
            raise PayloadCorruptError(
                f"payload {key}: {len(data)} bytes instead of {int(header[2])}"
            )
        if hashlib.sha256(data).hexdigest().encode() != header[1]:
            raise PayloadCorruptError(f"payload {key}: its bytes do not match their checksum")
        return data

    def _write_temporary(self, directory: Path, data: bytes) -> Path:
        path = directory / f"{_TEMPORARY}{secrets.token_hex(8)}"
        try:
            file = path.open("xb", buffering=0)
        except FileNotFoundError:
            self._make_directory(directory)
            file = path.open("xb", buffering=0)
        try:
            with file:
                header = f"taskflow-payload 1 sha256={hashlib.sha256(data).hexdigest()} bytes={len(data)}\n"
                _write_all(file.fileno(), header.encode())
                _write_all(file.fileno(), data)
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _make_directory(self, directory: Path) -> None:
        """With its parents, and durable: a new directory is an entry in its parent that has to reach the disk, too."""
        if directory.is_dir():
            return
        self._make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        _sync_directory(directory.parent)

    def _walk(self, directory: Path, names: Sequence[str]) -> Iterator[str]:
        with reading(self._root):
            try:
                with os.scandir(directory) as entries:
                    found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            except (FileNotFoundError, NotADirectoryError):
                return
        for name, is_directory in found:
            if is_directory:
                yield from self._walk(directory / name, [*names, name])
            elif len(names) > 1 and NAME.fullmatch(name) and names[-1] == _shard(name):
                yield "/".join([*names[:-1], name])


def _shard(name: str) -> str:
    return name.partition(".")[0][-SHARD_CHARS:]


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_directory(directory: Path) -> None:
    """Makes renames and new entries in ``directory`` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
