"""Stopping a thread that runs a handler: an exception raised in it from outside, through CPython's own API.

It arrives when the thread next executes Python code. A thread blocked in C code (`time.sleep`, a driver without a
timeout) does not see it until that returns; such a thread can only be given up.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType

_SHARED = ("taskflow.services", "taskflow.adapters", "taskflow.app", "taskflow.logs")
_WAITING = ("taskflow.services.tasks", "_wait")

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Interrupted(BaseException):
    """Raised inside a handler whose attempt is over: timed out, cancelled, or its worker stops.

    Like `asyncio.CancelledError` not an `Exception`, so that `except Exception` does not swallow it. Handlers may
    clean up on it; what they return or raise afterwards is not recorded.
    """


def interrupt(thread_id: int) -> None:
    """Raise Interrupted in the thread. The caller makes sure that it is in handler code and stays there."""
    _set_async_exc(ctypes.c_ulong(thread_id), ctypes.py_object(Interrupted))


def withdraw(thread_id: int) -> None:
    """Take back an interrupt that has not arrived yet."""
    _set_async_exc(ctypes.c_ulong(thread_id), None)


def is_in_engine(thread_id: int) -> bool:
    """Whether the handler in this thread is inside a call of TaskFlow's own, e.g. submitting another task.

    An exception there could leave a lock or a transaction that others share half done; the caller tries again shortly.
    Waiting for another task's result shares nothing, and may be interrupted.
    """
    frames = [
        (module, frame.f_code.co_name)
        for module, frame in _handler_frames(thread_id)
        if module != "threading"
    ]
    if frames[:1] == [_WAITING]:
        return False
    return any(module.startswith(_SHARED) for module, _ in frames)


def where_is(thread_id: int) -> TracebackType | None:
    """Where the handler in this thread is now: the traceback of an attempt whose thread is given up."""
    trace: TracebackType | None = None
    for _, frame in _handler_frames(thread_id):
        trace = TracebackType(trace, frame, frame.f_lasti, frame.f_lineno)
    return trace


def _handler_frames(thread_id: int) -> Iterator[tuple[str, FrameType]]:
    """Innermost first, with the module's name, down to where the worker calls the handler."""
    frame: FrameType | None = sys._current_frames().get(thread_id)  # documented in `sys`
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == "taskflow.worker.thread_call":
            return
        yield module, frame
        frame = frame.f_back
