"""One database, SQLite or PostgreSQL: connections, transactions, prepared statements, and vendor errors translated.

Statements are built with SQLAlchemy Core and compiled once (`Database.prepare`); the hot path then runs the compiled
text on the driver's own connection, because an execution through SQLAlchemy costs several times the row work itself
(docs/decisions/metadata-store.md). SQLite has one writer connection behind a lock and a pool of readers; PostgreSQL
has a pool. A batch travels as one JSON parameter (`batch.py`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import orjson
import sqlalchemy as sa

from taskflow.adapters.metadata.vendor_errors import first_line, translate
from taskflow.core.errors import (
    CommitUnknownError,
    ConfigurationError,
    StoreUnavailableError,
    TaskFlowError,
)
from taskflow.ports.clock import Clock

# The log is folded back into the file, and then written over, whenever it has grown to this.
_WAL_AUTOCHECKPOINT_PAGES = 4_096  # 16 MiB
_CACHE_KIB = 16_384
_UUID_OID = 2950  # pg_type.dat


class Prepared:
    """A compiled statement: text, and the order of its parameters."""

    __slots__ = ("_constants", "_names", "_positional", "returns_json", "text")

    def __init__(self, compiled: Any, *, returns_json: bool) -> None:
        self.text: str = str(compiled)
        self.returns_json = returns_json
        self._positional: bool = compiled.positional
        self._names: Sequence[str] = compiled.positiontup or ()
        self._constants: dict[str, Any] = {
            name: value for name, value in compiled.params.items() if value is not None
        }

    def parameters(self, given: Mapping[str, Any]) -> Any:
        constants = self._constants
        if self._positional:
            return [given[name] if name in given else constants.get(name) for name in self._names]
        return {**constants, **given}


class Transaction:
    """An open transaction on one connection. Not thread safe."""

    def __init__(self, driver: Any, now: Callable[[Any], int]) -> None:
        self._cursor = driver.cursor()
        self._read_now = now
        self._now: int | None = None

    @property
    def now(self) -> int:
        """Database time in Unix microseconds, the same throughout the transaction."""
        if self._now is None:
            self._now = self._read_now(self._cursor)
        return self._now

    def run(self, statement: Prepared, **parameters: Any) -> int:
        """Execute; returns the number of rows it changed."""
        self._cursor.execute(statement.text, statement.parameters(parameters))
        return int(self._cursor.rowcount)

    def run_each(self, text: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute once for every row of positional parameters."""
        self._cursor.executemany(text, rows)

    def rows(self, statement: Prepared, **parameters: Any) -> list[Sequence[Any]]:
        """Execute and fetch all rows, of a statement made by `Database.prepare_rows`."""
        self._cursor.execute(statement.text, statement.parameters(parameters))
        if statement.returns_json:
            rows: list[Sequence[Any]] = orjson.loads(self._cursor.fetchone()[0])
            return rows
        return list(self._cursor.fetchall())


class Database:
    """Thread safe. ``clock`` is SQLite's idea of the time; PostgreSQL has its own."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        busy_timeout_seconds: float = 5.0,
        readers: int = 5,
        pool_size: int = 5,
        pool_timeout_seconds: float = 5.0,
    ) -> None:
        try:
            self.url = sa.make_url(url)
        except sa.exc.ArgumentError as exc:
            raise ConfigurationError(f"TASKFLOW_DATABASE_URL is not a database URL: {exc}") from exc
        self._clock = clock
        self._write_lock = threading.RLock()
        self._writer: Any = None
        self._closed = False
        self._writer_waits = True  # synchronous=FULL, as connections start
        self._busy_timeout_ms = int(busy_timeout_seconds * 1000)
        match self.url.get_backend_name():
            case "sqlite":
                self.is_sqlite = True
                if self.url.database in (None, "", ":memory:"):
                    raise ConfigurationError(
                        "TASKFLOW_DATABASE_URL: an in-memory SQLite store would lose accepted tasks; name a file"
                    )
                self.engine = sa.create_engine(
                    self.url,
                    connect_args={
                        "check_same_thread": False,
                        "timeout": busy_timeout_seconds,
                        "cached_statements": 256,
                    },
                    pool_size=readers,
                    max_overflow=readers,
                )
                sa.event.listen(self.engine, "connect", self._configure_sqlite)
            case "postgresql":
                self.is_sqlite = False
                if find_spec("psycopg2") is None:
                    raise ConfigurationError(
                        "TASKFLOW_DATABASE_URL: PostgreSQL's driver is not installed: pip install 'taskflow[aws]'"
                    )
                self.engine = sa.create_engine(
                    self.url.set(drivername="postgresql+psycopg2"),
                    pool_size=pool_size,
                    max_overflow=0,
                    pool_timeout=pool_timeout_seconds,
                    pool_pre_ping=True,
                    connect_args={"application_name": "taskflow"},
                )
                sa.event.listen(self.engine, "connect", _keep_ids_text)
            case other:
                raise ConfigurationError(
                    f"TASKFLOW_DATABASE_URL: {other} is not supported; use sqlite or postgresql"
                )

    # --- statements -----------------------------------------------------------------------------

    def prepare(self, statement: sa.sql.expression.ClauseElement) -> Prepared:
        return Prepared(statement.compile(dialect=self.engine.dialect), returns_json=False)

    def prepare_rows(self, statement: sa.Select[Any]) -> Prepared:
        """On SQLite all rows come back as one JSON text: Python's driver gives up the GIL for every row it steps to,
        and beside busy threads each of these hand-overs may cost a switch interval (5 ms)."""
        if not self.is_sqlite:
            return self.prepare(statement)
        inner = statement.subquery("r")
        row = sa.func.json_array(*inner.c)
        wrapped = sa.select(sa.func.json_group_array(row)).select_from(inner)
        return Prepared(wrapped.compile(dialect=self.engine.dialect), returns_json=True)

    # --- transactions ---------------------------------------------------------------------------

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """A transaction that commits when the block ends and rolls back when it raises.

        With ``durable=False`` the commit does not wait for the disk: a power cut (not a crash of processes) may undo
        it, never without undoing what came after it. For what may be forgotten, such as a lease.
        """
        if self.is_sqlite:
            with self._write_lock, self._translated():
                driver = self._sqlite_writer()
                if durable is not self._writer_waits:
                    driver.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                    self._writer_waits = durable
                driver.execute("BEGIN IMMEDIATE")
                try:
                    yield Transaction(driver, self._clock_now)
                    driver.execute("COMMIT")
                except BaseException:
                    if driver.in_transaction:
                        driver.execute("ROLLBACK")
                    raise
        else:
            with self._translated():
                pooled = self.engine.raw_connection()
                try:
                    tx = Transaction(pooled, _postgresql_now)
                    if not durable:
                        pooled.cursor().execute("SET LOCAL synchronous_commit = off")
                    yield tx
                    _commit(pooled)
                except BaseException:
                    _roll_back(pooled)
                    raise
                finally:
                    pooled.close()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A snapshot through SQLAlchemy, for queries that are composed as they come."""
        with self._translated(), self.engine.connect() as connection:
            yield connection

    def read_rows(self, statement: Prepared, **parameters: Any) -> list[Sequence[Any]]:
        """The rows of a statement made by `prepare_rows`, for the reads that are made all the time."""
        with self._translated():
            pooled = self.engine.raw_connection()
            try:
                return Transaction(pooled, self._clock_now).rows(statement, **parameters)
            finally:
                pooled.close()

    def now(self) -> int:
        """Database time outside of a transaction."""
        if self.is_sqlite:
            return self._clock.now_us()
        with self.write() as tx:
            return tx.now

    def close(self) -> None:
        """What comes later gets StoreUnavailableError."""
        self._closed = True
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self.engine.dispose()

    # --- inside ---------------------------------------------------------------------------------

    def _clock_now(self, _cursor: Any) -> int:
        return self._clock.now_us()

    def _sqlite_writer(self) -> Any:
        if self._writer is None:
            connection = self.engine.raw_connection()
            self._writer = connection.driver_connection
            connection.detach()
        return self._writer

    def _configure_sqlite(self, driver: sqlite3.Connection, _record: Any) -> None:
        driver.isolation_level = None  # transactions are begun and ended here, not by the driver
        for pragma in (
            f"busy_timeout={self._busy_timeout_ms}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"wal_autocheckpoint={_WAL_AUTOCHECKPOINT_PAGES}",
            f"cache_size=-{_CACHE_KIB}",
            "temp_store=MEMORY",
        ):
            driver.execute(f"PRAGMA {pragma}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self._closed:
            raise StoreUnavailableError("this TaskFlow has been stopped; its store is closed")
        try:
            yield
        except TaskFlowError:
            raise
        except sa.exc.TimeoutError as exc:
            raise StoreUnavailableError(
                "all database connections are in use", retry_after_seconds=1.0
            ) from exc
        except sa.exc.DBAPIError as exc:
            raise translate(exc.orig) from exc
        except sqlite3.Error as exc:
            raise translate(exc) from exc
        except Exception as exc:
            if type(exc).__module__.startswith("psycopg2"):
                raise translate(exc) from exc
            raise


def _keep_ids_text(driver: Any, _record: Any) -> None:
    """Ids are text everywhere else; SQLAlchemy would have the driver make objects of them."""
    from psycopg2 import extensions

    extensions.register_type(
        extensions.new_type((_UUID_OID,), "uuid_text", lambda text, _cursor: text), driver
    )


def _postgresql_now(cursor: Any) -> int:
    cursor.execute("SELECT taskflow_now()")
    return int(cursor.fetchone()[0])


def _roll_back(pooled: Any) -> None:
    """Never raises: the error that is under way says what happened."""
    try:
        pooled.rollback()
    except Exception:  # noqa: BLE001 - the connection is broken, and with it the transaction is gone
        pooled.invalidate()


def _commit(pooled: Any) -> None:
    try:
        pooled.commit()
    except Exception as exc:
        if isinstance(translate(exc), StoreUnavailableError):
            raise CommitUnknownError(
                f"PostgreSQL did not answer to a commit: {first_line(exc)}"
            ) from exc
        raise
