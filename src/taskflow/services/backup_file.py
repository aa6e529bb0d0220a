"""The backup file: one JSON document with one record per line, so that `jq`, an editor and `grep` all serve.

    {"taskflow_backup":{"version":1,"created_at":"…","records":3,"tables":{"tasks":1,…},…},"records":[
    {"crc32":"5bd0a0c5","record":1,"table":"tasks","row":{…}},
    {"crc32":"0a41cf60","record":2,"payload":"default/input/0199…","base64":"…"},
    ]}

Every line is checked by itself (so that the wrong one can be named), all of them by the SHA-256 in the header (so that
none can be missing, added or moved), and the header by its own. Reading and writing take constant memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taskflow.core.errors import BackupInvalidError

VERSION = 1
_OPENING = b'{"taskflow_backup":'
_AFTER_HEADER = b',"records":[\n'
_END = b"]}\n"
_CRC = b'{"crc32":"%08x",'
_CRC_BYTES = len(_CRC % 0)
_MAX_HEADER_BYTES = 65_536


class Row(NamedTuple):
    table: str
    columns: Mapping[str, Any]


class PayloadObject(NamedTuple):
    key: str
    data: bytes


Record = Row | PayloadObject


class Header(BaseModel):
    """What the file holds. ``sha256`` is over all record lines, ``header_sha256`` over the other fields here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    created_at: str
    taskflow: str = Field(description="Version of the program that wrote it")
    schema_revision: str
    records: int
    tables: dict[str, int] = Field(description="Rows by table")
    payloads: int
    payload_bytes: int
    longest_line_bytes: int
    sha256: str
    header_sha256: str = ""

    def line(self) -> bytes:
        """The first line of the file, with ``header_sha256`` as it must be."""
        fields = self.model_dump(exclude={"header_sha256"})
        fields["header_sha256"] = hashlib.sha256(orjson.dumps(fields)).hexdigest()
        return _OPENING + orjson.dumps(fields) + _AFTER_HEADER


def write(path: Path, records: Iterable[Record], **about: str) -> Header:
    """Write ``records`` to ``path``, which appears complete or not at all. ``about``: the header's texts."""
    with ExitStack() as cleaning:
        body, _ = cleaning.enter_context(_temporary(path))
        header = _write_body(body, records, about)
        body.seek(0)
        whole, whole_name = cleaning.enter_context(_temporary(path))
        whole.write(header.line())
        shutil.copyfileobj(body, whole, 1 << 20)
        whole.write(_END)
        whole.flush()
        os.fsync(whole.fileno())
        Path(whole_name).replace(path)
        _sync_directory(path.parent)
    return header


def read_header(path: Path) -> Header:
    """Raises BackupInvalidError, also for a file of another version."""
    with path.open("rb") as file:
        return _read_header(path, file)


def read(path: Path) -> Iterator[Record]:
    """The records, each checked. What makes the whole trustworthy is known at the end: exhaust it before you use them.

    Raises BackupInvalidError naming the line.
    """
    with path.open("rb") as file:
        header = _read_header(path, file)
        digest = hashlib.sha256()
        tables: dict[str, int] = {}
        for number in range(1, header.records + 1):
            line = file.readline(header.longest_line_bytes + 1)
            digest.update(line)
            record = _parse(path, number, line, last=number == header.records)
            if isinstance(record, Row):
                tables[record.table] = tables.get(record.table, 0) + 1
            yield record
        end = header.records + 2
        if file.readline(len(_END) + 1) != _END or file.read(1):
            raise _refused(
                path,
                end,
                f"the file does not end after {header.records} records, as its header says",
            )
        if digest.hexdigest() != header.sha256 or tables != header.tables:
            raise _refused(path, 1, "the records are not those the header was written for")


def _write_body(body: IO[bytes], records: Iterable[Record], about: Mapping[str, str]) -> Header:
    digest = hashlib.sha256()
    tables: dict[str, int] = {}
    payloads = payload_bytes = longest = number = 0
    previous = b""

    def emit(line: bytes) -> None:
        nonlocal longest
        digest.update(line)
        body.write(line)
        longest = max(longest, len(line))

    for number, record in enumerate(records, start=1):
        if previous:
            emit(previous + b",\n")
        if isinstance(record, Row):
            tables[record.table] = tables.get(record.table, 0) + 1
        else:
            payloads += 1
            payload_bytes += len(record.data)
        previous = _line(number, record)
    if previous:
        emit(previous + b"\n")
    return Header(
        version=VERSION,
        records=number,
        tables=tables,
        payloads=payloads,
        payload_bytes=payload_bytes,
        longest_line_bytes=longest,
        sha256=digest.hexdigest(),
        **about,
    )


def _line(number: int, record: Record) -> bytes:
    content: dict[str, Any] = {"record": number}
    if isinstance(record, Row):
        content |= {"table": record.table, "row": dict(record.columns)}
    else:
        content |= {"payload": record.key, "base64": base64.b64encode(record.data).decode()}
    # Column names may be of a driver's own kind of string.
    text = orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)
    return _CRC % zlib.crc32(text) + text[1:]


def _parse(path: Path, number: int, line: bytes, *, last: bool) -> Record:
    where = number + 1
    if not line.endswith(b"\n"):
        raise _refused(
            path, where, "the file ends here" if not line else "the line is cut off or too long"
        )
    if line == _END:
        raise _refused(path, where, "records are missing from here on")
    text = line[:-1] if last else line[:-2]
    content = b"{" + text[_CRC_BYTES:]
    if text[:_CRC_BYTES] != _CRC % zlib.crc32(content) or line[len(text) :] != (
        b"\n" if last else b",\n"
    ):
        raise _refused(path, where, "the line was changed: its checksum does not match")
    try:
        fields = orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        raise _refused(path, where, f"not JSON ({exc})") from exc
    match fields:
        case {"record": found} if found != number:
            raise _refused(
                path, where, f"a line is missing or was moved: this is record {found}, not {number}"
            )
        case {"record": _, "table": str(table), "row": dict(columns)}:
            return Row(table, columns)
        case {"record": _, "payload": str(key), "base64": str(encoded)}:
            try:
                return PayloadObject(key, base64.b64decode(encoded, validate=True))
            except binascii.Error as exc:
                raise _refused(path, where, "the payload is not base64") from exc
        case _:
            raise _refused(path, where, "neither a row nor a payload")


def _read_header(path: Path, file: IO[bytes]) -> Header:
    line = file.readline(_MAX_HEADER_BYTES)
    if not line.startswith(_OPENING) or not line.endswith(_AFTER_HEADER):
        raise _refused(path, 1, "this is not the beginning of a TaskFlow backup")
    try:
        fields = orjson.loads(line[len(_OPENING) : -len(_AFTER_HEADER)])
        if isinstance(fields, dict) and fields.get("version") != VERSION:
            raise _refused(
                path,
                1,
                f"the backup has version {fields.get('version')!r}, this program reads version {VERSION}",
            )
        header = Header.model_validate(fields, strict=True)
    except (orjson.JSONDecodeError, ValidationError) as exc:
        raise BackupInvalidError(f"{path}, line 1: the header was changed") from exc
    if header.line() != line:
        raise _refused(path, 1, "the header was changed: its checksum does not match")
    return header


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """A file beside ``path`` that is gone afterwards, unless it was moved."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file, name
    finally:
        Path(name).unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, line: int, why: str) -> BackupInvalidError:
    return BackupInvalidError(f"{path}, line {line}: {why}")
