"""Writes values into `.env`: the other lines stay as they are, and whoever reads it sees the old or the new file."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deployment.errors import DeployError

MODE = 0o600
_HEADING = "# Written by deploy.py: where the stack is. Other lines of this file are left alone."
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")
_LINE = re.compile(
    r"""(?P<before>[ \t]*(?:export[ \t]+)?)(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
        (?P<value>'[^']*'|"(?:[^"\\]|\\.)*"|[^\n]*?)(?P<comment>[ \t]+\#[^\r\n]*)?[ \t]*\r?\n?""",
    re.VERBOSE | re.DOTALL,
)
_OPENED = re.compile(r"[ \t]*(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*[ \t]*=[ \t]*(?P<quote>['\"])")


def write(path: Path, values: Mapping[str, str | None]) -> list[str]:
    """Set each name to its value, or remove it (None); returns the names whose line is new, changed or gone.

    A name that is there keeps its place, also in the middle of what somebody wrote, and repetitions of it go; new names
    come last, under a heading. A link stays a link. Raises DeployError when the file cannot be written.
    """
    path = path.resolve()
    try:
        before = path.read_bytes().decode() if path.exists() else ""
        after, changed = merged(before, values)
        if after != before or (path.exists() and path.stat().st_mode & 0o777 != MODE):
            _replace(path, after.encode())
    except (OSError, UnicodeDecodeError) as exc:
        raise DeployError(
            f"{path} cannot be written ({exc}).",
            "Make it writable text, or choose another file with --env-file; then run `up` again.",
            code="env_file",
        ) from exc
    return changed


def merged(text: str, values: Mapping[str, str | None]) -> tuple[str, list[str]]:
    """The new text, and the names that changed. Raises DeployError where a quote that the text leaves open would end
    in what is written."""
    newline = "\r\n" if "\r\n" in text else "\n"
    statements = _statements(text)
    kept: list[str] = []
    written: list[str] = []
    seen: set[str] = set()
    changed: set[str] = set()
    for statement in statements:
        found = _LINE.fullmatch(statement)
        name = found["name"] if found else ""
        if name not in values:
            kept.append(statement)
            continue
        value = values[name]
        if value is None or name in seen:
            changed.add(name)
            continue
        seen.add(name)
        assert found is not None  # it gave the name
        if _unquoted(found["value"]) == value:
            kept.append(statement)
            continue
        changed.add(name)
        ending = newline if statement.endswith("\n") else ""
        written.append(quoted(value))
        kept.append(f"{found['before']}{name}={written[-1]}{found['comment'] or ''}{ending}")
    missing = [
        f"{name}={quoted(value)}{newline}"
        for name, value in values.items()
        if value is not None and name not in seen
    ]
    _check_quotes(statements, "".join([*written, *missing]))
    if missing:
        changed |= {name for name, value in values.items() if value is not None} - seen
        if kept and not kept[-1].endswith("\n"):
            kept[-1] += newline
        heading = _HEADING + newline
        if heading not in kept:
            kept.extend([newline, heading] if kept and kept[-1].strip() else [heading])
        kept.extend(missing)
    elif not seen:
        kept = [statement for statement in kept if statement.strip() != _HEADING]
    return "".join(kept), [name for name in values if name in changed]


def read(path: Path) -> dict[str, str]:
    """Names and values; of values that others have written in quotes only the outermost are taken off."""
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for statement in _statements(path.read_bytes().decode()):
        if match := _LINE.fullmatch(statement):
            found[match["name"]] = _unquoted(match["value"])
    return found


def quoted(value: str) -> str:
    """As python-dotenv, docker compose and a POSIX shell all read it: plain where that is safe, else in single quotes.

    Raises ValueError for what not all of them can read: a single quote, a line break, a backslash or NUL.
    """
    if _PLAIN.fullmatch(value):
        return value
    if re.search(r"['\\\r\n\0]", value):
        raise ValueError(f"not for an .env file: {value!r}")
    return f"'{value}'"


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def _statements(text: str) -> list[str]:
    """Lines with their ends; a quoted value over several lines is one statement."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    statements: list[str] = []
    while lines:
        statement = lines.pop(0)
        if quote := _open_quote(statement):
            end = next((at for at, line in enumerate(lines, 1) if quote in line), 0)
            statement += "".join(lines[:end])
            del lines[:end]
        statements.append(statement)
    return statements


def _check_quotes(statements: list[str], written: str) -> None:
    """Raises DeployError: a value of the file would go on until the next quote of its kind, in what is ours."""
    line = 1
    for statement in statements:
        quote = _open_quote(statement)
        if quote and quote in written:
            raise DeployError(
                f"The .env file opens a quote ({quote}) in line {line} that is never closed.",
                "Close it, or choose another file with --env-file; then run `up` again.",
                code="env_file",
            )
        line += statement.count("\n")


def _open_quote(statement: str) -> str:
    """The quote that opens its value and is not closed by it; empty if there is none."""
    opened = _OPENED.match(statement)
    return opened["quote"] if opened and opened["quote"] not in statement[opened.end() :] else ""


def _replace(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), MODE)
            if path.exists() and (owner := path.stat()).st_uid != os.geteuid():
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)  # `sudo` leaves it to its user
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
