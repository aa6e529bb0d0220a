"""Structured logs: an event name and fields, one JSON line each. Imported, it configures and prints nothing.

Events travel as standard `logging` records of loggers under ``taskflow``. A host program that configured `logging`
gets them through its own handlers as ``task.completed task=echo duration_ms=1.4``; entry points of ours call
`configure`, which renders every record of the process, third parties' too, in one shape.

structlog renders for people only and is imported for that alone: it takes 180 ms to import, and its bound contextvars
9 µs a use; a library that runs in other programs has neither to spend.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

import orjson

from taskflow import __version__

LogFormat = Literal["auto", "json", "console"]
_Excinfo = tuple[type[BaseException], BaseException, TracebackType | None]

# Chatty at info about what is our business, not our operator's; shown from warning on, or with level debug.
QUIET = (
    "alembic",
    "asyncio",
    "boto3",
    "botocore",
    "httpcore",
    "httpx",
    "mangum",
    "s3transfer",
    "urllib3",
)
_JSON_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
_NOTHING: Mapping[str, Any] = {}
_context: ContextVar[Mapping[str, Any]] = ContextVar("taskflow_log_context", default=_NOTHING)


@contextmanager
def bound_contextvars(**fields: Any) -> Iterator[None]:
    """Every line logged inside carries ``fields``, from any logger, in this thread or asyncio task."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def bind_contextvars(**fields: Any) -> None:
    """`bound_contextvars` without an end: for code that runs in a context of its own, e.g. an asyncio task."""
    _context.set({**_context.get(), **fields})


def _bound() -> dict[str, Any]:
    """Without those that have been bound to None: what had them before in this context is over."""
    return {name: value for name, value in _context.get().items() if value is not None}


class LogEvent:
    """What a record carries as ``msg``: text when asked for it, fields for who can use them."""

    __slots__ = ("event", "fields")

    def __init__(self, event: str, fields: Mapping[str, Any]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        return " ".join([self.event, *(f"{name}={value!s}" for name, value in self.fields.items())])


class Logger:
    """Events with fields. A call below the level costs well under a microsecond. Field names: vocabulary and units
    of DESIGN.md §7; never payloads or secrets. ``exc_info=True`` (or an exception) adds its traceback."""

    __slots__ = ("_fields", "_logger")

    def __init__(self, logger: logging.Logger, fields: Mapping[str, Any] = _NOTHING) -> None:
        self._logger = logger
        self._fields = fields

    def bind(self, **fields: Any) -> Logger:
        """A logger whose lines all carry ``fields``."""
        return Logger(self._logger, {**self._fields, **fields})

    def enabled(self, level: int) -> bool:
        """Whether lines of this `logging` level are written: for fields that are expensive to gather."""
        return self._logger.isEnabledFor(level)

    def debug(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.DEBUG):
            self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.WARNING):
            self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(logging.ERROR):
            self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """`error` with the traceback of the exception being handled."""
        self.error(event, **{"exc_info": True, **fields})

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        exc_info = _exc_info(fields.pop("exc_info", None))
        if self._fields:
            fields = {**self._fields, **fields}
        # Not `Logger.log`: finding the caller's line costs more than everything else, and events have names.
        record = logging.LogRecord(
            self._logger.name, level, "", 0, LogEvent(event, fields), None, exc_info
        )
        self._logger.handle(record)


def get_logger(name: str) -> Logger:
    """The logger of a module: ``log = get_logger(__name__)``."""
    return Logger(logging.getLogger(name))


def configure(
    level: str = "info",
    format: LogFormat = "auto",
    *,
    service: str = "taskflow",
    also: Callable[[str], None] | None = None,
) -> None:
    """Send all logs of this process to stderr, in our shape. For entry points only; the last call counts.

    ``level`` as in `Settings.log_level`; ``format`` auto: readable on a terminal, else JSON lines with ``ts, level,
    event, logger, service, version`` and the bound fields. ``service`` names the kind of process. ``also`` gets every
    line as JSON, one call at a time; it must not raise.
    """
    as_json = format == "json" or (format == "auto" and not sys.stderr.isatty())
    lines = _JSONFormatter(service)
    handler = _StderrHandler(lines, also)
    handler.setFormatter(lines if as_json else _ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(threshold)
    for name in QUIET:
        logging.getLogger(name).setLevel(
            logging.NOTSET if threshold <= logging.DEBUG else logging.WARNING
        )
    logging.captureWarnings(True)


class _StderrHandler(logging.Handler):
    """Whatever `sys.stderr` is now; one write per line, so that processes sharing it do not mix theirs."""

    def __init__(self, lines: _JSONFormatter, also: Callable[[str], None] | None) -> None:
        super().__init__()
        self._lines = lines
        self._also = also

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if self._also is not None:
                self._also(text if self.formatter is self._lines else self._lines.format(record))
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - a log line never breaks what it reports on
            self.handleError(record)  # says so on stderr


class _JSONFormatter(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "event": "",
            "logger": record.name,
            "service": self._service,
            "version": __version__,
            **_fields_of(record),
        }
        if record.exc_text:  # it comes from another process
            line["exception"] = record.exc_text
        elif record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str, option=_JSON_OPTIONS).decode()
        except (TypeError, ValueError):
            # Integers beyond 64 bit, lone surrogates: slower, but never lost.
            return json.dumps(line, default=str, skipkeys=True)


class _ConsoleFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        from structlog.dev import ConsoleRenderer

        self._render = ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC)
            .astimezone()
            .strftime("%H:%M:%S"),
            "level": record.levelname.lower(),
            **_fields_of(record),
        }
        if record.exc_text:  # it comes from another process
            line["exception"] = record.exc_text
        elif record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return str(self._render(None, "", line))


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    message = record.msg
    if isinstance(message, LogEvent):
        return {**_bound(), **message.fields, "event": message.event}
    return {**_bound(), "event": record.getMessage()}


def _exc_info(given: Any) -> _Excinfo | None:
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    if given:
        kind, value, trace = sys.exc_info()
        return (kind, value, trace) if kind is not None and value is not None else None
    return None
