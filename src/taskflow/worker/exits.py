"""Handlers that try to leave: `sys.exit`, KeyboardInterrupt and whatever else is not an `Exception`."""

from __future__ import annotations

from taskflow.core.errors import HandlerExitedError


def as_error(exc: BaseException) -> Exception:
    """``exc`` itself, or HandlerExitedError with its traceback when it would have ended more than the attempt."""
    if isinstance(exc, Exception):
        return exc
    if isinstance(exc, SystemExit):
        what = f"the handler called sys.exit({'' if exc.code is None else repr(exc.code)})"
    else:
        what = f"the handler raised {type(exc).__name__}"
    error = HandlerExitedError(what)
    error.__cause__ = exc
    return error.with_traceback(exc.__traceback__)
