"""The merged log: every line of every process, whole, behind the name of who wrote it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TextIO

import orjson

OURS = "cluster"
_COLOURS = (36, 32, 35, 34, 33, 96, 92, 95, 94, 93)  # ANSI: cyan, green, magenta, …
_LEVEL_COLOURS = {"warning": 33, "error": 31, "critical": 31}
_DIM = 2
_BOLD = 1
# People need not see these; TASKFLOW_LOG_FORMAT=json has them all.
_UNSAID = (
    "logger",
    "service",
    "version",
    "ts",
    "level",
    "event",
    "exception",
    "request_id",
    "route",
)
_EVENT_WIDTH = 20


class Screen:
    """Thread safe. JSON lines become readable ones, unless ``as_json``: then every line is JSON that names its process.

    ``on_closed`` is called once when nobody reads any more (`taskflow cluster | head`).
    """

    def __init__(
        self,
        stream: TextIO,
        names: Iterable[str],
        *,
        colour: bool,
        as_json: bool,
    ) -> None:
        self._stream = stream
        known = [OURS, *names]
        self._width = max(map(len, known))
        self._colours = dict(zip(known, itertools.cycle(_COLOURS), strict=False))
        self._colour = colour
        self._as_json = as_json
        self.on_closed: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._is_closed = False

    def line(self, name: str, text: str) -> None:
        """What the process ``name`` wrote, without the line's end."""
        entry = _entry(text)
        if self._as_json:
            fields = entry if entry is not None else {"event": text, "level": "info"}
            ours = {"process": name}
            self._write(orjson.dumps(ours | fields | ours).decode())
        elif entry is None:
            self._show(name, _printable(text).splitlines() or [""])
        else:
            self._show(name, self._readable(entry))

    def say(self, text: str, *, level: str = "info") -> None:
        """The cluster's own words; ``text`` may have several lines."""
        if self._as_json:
            now = datetime.now().astimezone().isoformat()
            entry = {"process": OURS, "ts": now, "level": level, "event": text}
            self._write(orjson.dumps(entry).decode())
        else:
            code = _LEVEL_COLOURS.get(level, _BOLD)
            self._show(OURS, [self._painted(line, code) for line in text.splitlines()])

    def _show(self, name: str, lines: Iterable[str]) -> None:
        prefix = self._painted(f"{name:<{self._width}} |", self._colours.get(name, _BOLD))
        self._write("\n".join(f"{prefix} {line}".rstrip() for line in lines))

    def _readable(self, entry: dict[str, Any]) -> list[str]:
        level, event = (_word(entry.get(name, "info")) for name in ("level", "event"))
        code = _LEVEL_COLOURS.get(level, _BOLD)
        words = [self._painted(_time(entry.get("ts")), _DIM)]
        if level != "info":
            words.append(self._painted(level, code))
        words.append(self._painted(f"{event:<{_EVENT_WIDTH}}", code))
        words += [
            f"{self._painted(f'{_word(name)}=', _DIM)}{_value(value)}"
            for name, value in entry.items()
            if name not in _UNSAID and value not in (None, "")
        ]
        trace = _printable(str(entry.get("exception", ""))).splitlines()
        return [" ".join(words), *(f"    {line}" for line in trace)]

    def _painted(self, text: str, code: int) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _write(self, text: str) -> None:
        with self._lock:
            if self._is_closed:
                return
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._is_closed = True
            else:
                return
        self.on_closed()


def _entry(text: str) -> dict[str, Any] | None:
    """A line of our JSON logs; None for anything else."""
    if not text.startswith("{"):
        return None
    try:
        entry = orjson.loads(text)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _time(moment: Any) -> str:
    try:
        return datetime.fromisoformat(str(moment)).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return datetime.now().astimezone().strftime("%H:%M:%S")


def _value(value: Any) -> str:
    if isinstance(value, str):
        text = _printable(value)
        return text if text and " " not in text and "\n" not in text else repr(text)
    return _printable(orjson.dumps(value).decode())


def _word(value: Any) -> str:
    return " ".join(_printable(str(value)).splitlines())


def _printable(text: str) -> str:
    """What tasks print moves no cursor and rings no bell."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
