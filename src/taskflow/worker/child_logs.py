"""Log lines of a child process: its parent writes them, so that they look like all others and go where those go."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from taskflow.logs import LogEvent, bound_contextvars

_ROOT = ""


def levels() -> dict[str, int]:
    """What the loggers of this process have been told to write, by name: a child needs to say no more than that."""
    found = {_ROOT: logging.getLogger().level}
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level != logging.NOTSET:
            found[name] = logger.level
    return found


class ToParent(logging.Handler):
    """In the child: takes the place of whatever would write there. ``send`` is given a message for `write`."""

    def __init__(self, send: Callable[..., None]) -> None:
        super().__init__()
        self._send = send
        self._pid = os.getpid()
        self._levels: Mapping[str, int] = {}
        self._bound: Mapping[str, Any] = {}
        logging.getLogger().handlers[:] = [self]
        logging.captureWarnings(True)

    def begin(self, bound: Mapping[str, Any], levels: Mapping[str, int]) -> None:
        """From now on lines belong to the attempt that ``bound`` names."""
        self._bound = bound
        for name in self._levels.keys() - levels.keys():
            logging.getLogger(name).setLevel(logging.NOTSET)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        self._levels = levels

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._pid:
            # A process that the handler forked: the connection is not its own.
            if logging.lastResort is not None and record.levelno >= logging.lastResort.level:
                logging.lastResort.handle(record)
            return
        try:
            self._send(type="log", bound=self._bound, **_plain(record))
        except Exception:  # noqa: BLE001 - a log line never breaks what it reports on
            self.handleError(record)  # says so on stderr


def write(message: Mapping[str, Any]) -> None:
    """In the parent: as if it had been logged here."""
    logger = logging.getLogger(message["logger"])
    if not logger.isEnabledFor(message["level"]):
        return
    event, fields = message["event"], message["fields"]
    record = logging.LogRecord(
        logger.name,
        message["level"],
        message["path"],
        message["line"],
        event if fields is None else LogEvent(event, fields),
        None,
        None,
    )
    record.exc_text = message["exception"]
    with bound_contextvars(**message["bound"]):
        logger.handle(record)


_formatter = logging.Formatter()


def _plain(record: logging.LogRecord) -> dict[str, Any]:
    """``fields`` is None for lines that are text only."""
    event, fields, message = "", None, record.msg
    if isinstance(message, LogEvent):
        event, fields = message.event, _fields(message.fields)
    else:
        event = record.getMessage()
    exc_info = record.exc_info
    return {
        "logger": record.name,
        "level": record.levelno,
        "path": record.pathname,
        "line": record.lineno,
        "event": _clean(event),
        "fields": fields,
        "exception": _clean(_formatter.formatException(exc_info)) if exc_info else None,
    }


def _fields(fields: Mapping[str, Any]) -> Any:
    try:
        return orjson.loads(orjson.dumps(dict(fields), default=str, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, ValueError):  # integers beyond 64 bit, lone surrogates
        return {str(name): _clean(str(value)) for name, value in fields.items()}


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
