"""What SQLite and PostgreSQL raise, in TaskFlow's words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from taskflow.core.errors import (
    StatementTimeoutError,
    StoreBusyError,
    StoreCorruptError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreUnavailableError,
    TaskFlowError,
)

# Of libpq: a server is there and does not want us. In what state the database system is, is another matter.
_REFUSED = "failed: FATAL:"
_STATE = "the database system is"


@contextmanager
def translated(*, is_callers: bool = False) -> Iterator[None]:
    """Whatever the driver or SQLAlchemy's pool raises inside comes out as `translate` says. ``is_callers``: on a
    connection that somebody else has set up."""
    try:
        yield
    except TaskFlowError:
        raise
    except sa.exc.TimeoutError as exc:
        raise StoreBusyError(
            "all database connections of this process are in use "
            "(TASKFLOW_DATABASE_POOL_SIZE, TASKFLOW_DATABASE_MAX_OVERFLOW)",
            retry_after_seconds=1.0,
        ) from exc
    except sa.exc.DBAPIError as exc:
        raise translate(exc.orig, is_callers=is_callers) from exc
    except sqlite3.Error as exc:
        raise translate(exc) from exc
    except Exception as exc:
        if type(exc).__module__.startswith("psycopg"):  # a caller's own connection may be psycopg's
            raise translate(exc, is_callers=is_callers) from exc
        raise


def translate(exc: BaseException | None, *, is_callers: bool = False) -> Exception:
    """A TaskFlowError for what the surroundings do to us; programming errors stay what they are."""
    assert isinstance(exc, Exception)
    if isinstance(exc, TaskFlowError):
        return exc
    if isinstance(exc, sqlite3.Error):
        return _sqlite(exc)
    # By name, because this module also works where psycopg2 is not installed; every SQLSTATE has a class of its own.
    names = {kind.__name__ for kind in type(exc).__mro__}
    text = first_line(exc)
    if "DiskFull" in names:
        return StoreFullError("the disk that holds the store is full; nothing was written")
    if "ReadOnlySqlTransaction" in names:
        return StoreReadOnlyError(f"the store cannot be written: {text}")
    if "InsufficientPrivilege" in names:
        return StoreUnavailableError(f"PostgreSQL does not allow it: {text}")
    # Or pg_cancel_backend: only PostgreSQL's words, in the server's language, tell the two apart. Either way somebody
    # has found that it takes too long.
    if "QueryCanceled" in names:
        limit = (
            "the statement_timeout is the caller's own"
            if is_callers
            else "TASKFLOW_DATABASE_STATEMENT_TIMEOUT_SECONDS limits how long one may take"
        )
        return StatementTimeoutError(f"PostgreSQL gave up a statement: {text} ({limit})")
    if "LockNotAvailable" in names:
        return StoreLockedError(
            f"a transaction that has not ended yet is in the way: {text}; nothing was written",
            retry_after_seconds=1.0,
        )
    if names & {"DeadlockDetected", "SerializationFailure"}:
        return StoreUnavailableError(f"PostgreSQL: {text}; nothing was written")
    # Some of libpq's complaints about a connection come as nothing but a DatabaseError: without a SQLSTATE.
    if names & {"OperationalError", "InterfaceError"} or type(exc).__name__ == "DatabaseError":
        did = "refused" if _REFUSED in text and _STATE not in text else "did not answer"
        return StoreUnavailableError(f"PostgreSQL {did}: {text}")
    return exc


def from_psycopg(exc: BaseException | None) -> Exception | None:
    """The driver's own error below what `translated` made of it."""
    while exc is not None and not type(exc).__module__.startswith("psycopg"):
        exc = exc.__cause__
    return exc if isinstance(exc, Exception) else None


def sqlstate(exc: Exception) -> str | None:
    """None: it comes from libpq, not from the server, with which there is no connection."""
    state: str | None = getattr(exc, "pgcode", None)
    return state


def _sqlite(exc: sqlite3.Error) -> Exception:
    text = str(exc).strip()
    lowered = text.lower()
    if "disk is full" in lowered:
        return StoreFullError("the disk that holds the store is full; nothing was written")
    if "readonly" in lowered or "read-only" in lowered:
        return StoreReadOnlyError(f"the store cannot be written: {text}")
    if "malformed" in lowered or "not a database" in lowered:
        return StoreCorruptError(
            f"the store is damaged ({text}); restore a backup or run `taskflow doctor`"
        )
    # Of a caller's transaction alone: ours begin with the write lock.
    if getattr(exc, "sqlite_errorname", "") == "SQLITE_BUSY_SNAPSHOT":
        return StoreUnavailableError(
            "others have written since this transaction first read: roll it back, and begin it again"
        )
    if "locked" in lowered or "busy" in lowered:
        return StoreUnavailableError(
            "another process holds the store's write lock", retry_after_seconds=1.0
        )
    if isinstance(exc, sqlite3.OperationalError) and (
        "unable to open" in lowered or "i/o error" in lowered
    ):
        return StoreUnavailableError(
            f"the store cannot be reached: {text}", retry_after_seconds=1.0
        )
    return exc


def first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
