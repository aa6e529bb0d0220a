"""Exceptions of a child process as JSON, and back, so that the parent classifies them as if it had caught them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from taskflow.core.classification import traceback_of
from taskflow.core.http_answers import http_status, retry_after_seconds
from taskflow.core.retry import Retry

_MAX_TRACEBACK_CHARS = 65_536
_MAX_MESSAGE_CHARS = 16_384


class ChildTracebackError(Exception):
    """Cause of an error that came from a child process: its text is the traceback there."""


def to_message(exc: BaseException) -> dict[str, Any]:
    return {
        "classes": [[kind.__module__, kind.__qualname__] for kind in type(exc).__mro__[:-1]],
        "message": _text(exc)[:_MAX_MESSAGE_CHARS],
        "traceback": _clean(traceback_of(exc))[-_MAX_TRACEBACK_CHARS:],
        "attributes": _attributes(exc),
    }


def from_message(message: Mapping[str, Any]) -> BaseException:
    """An exception of the closest class that this process knows, under the name it had in the child.

    No module is imported and no constructor called for it: a class the parent has never loaded cannot be named in a
    handler's ``retry_for`` either.
    """
    text = str(message["message"])
    namespace: dict[str, Any] = dict(message["attributes"])
    namespace["__str__"] = lambda _: text
    namespace["__module__"], name = message["classes"][0]
    base = next(filter(None, (_find(*place) for place in message["classes"])), Exception)
    kind = type(name.rpartition(".")[2], (base,), namespace)
    exc: BaseException = base.__new__(kind)
    exc.args = (text,)
    exc.__cause__ = ChildTracebackError(f"in the child process:\n{message['traceback']}")
    return exc


def _find(module: str, qualname: str) -> type[BaseException] | None:
    # The parent's script is __main__, which the child knows under the name it imported it as.
    found: Any = sys.modules.get("__main__" if module == "__mp_main__" else module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _attributes(exc: BaseException) -> dict[str, Any]:
    """What core/classification.py looks at besides the class, where every exception may have it."""
    values: dict[str, Any] = {
        "status_code": http_status(exc),
        "retry_after_seconds": retry_after_seconds(exc),
    }
    if isinstance(exc, Retry):
        values |= {"delay_seconds": exc.delay_seconds, "counts": exc.counts}
    return {name: value for name, value in values.items() if value is not None}


def _text(exc: BaseException) -> str:
    try:
        return _clean(str(exc))
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(exc).__name__}.__str__ raised {type(broken).__name__}>"


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
