"""SQLite's side of `Database`: one writer connection behind a lock, and a pool of readers."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata.search import UNICODE_LOWER, unicode_lower
from taskflow.adapters.metadata.transaction import Prepared, Transaction
from taskflow.adapters.metadata.vendor_errors import translated
from taskflow.core.errors import CommitUnknownError, ConfigurationError, StoreUnavailableError
from taskflow.ports.clock import Clock

# The log is folded back into the file, and then written over, whenever it has grown to this.
_WAL_AUTOCHECKPOINT_PAGES = 4_096  # 16 MiB
_CACHE_KIB = 16_384
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter


class SqliteConnections:
    """``clock`` is SQLite's idea of the time."""

    def __init__(
        self, url: sa.URL, *, clock: Clock, busy_timeout_seconds: float, readers: int
    ) -> None:
        if url.database in (None, "", ":memory:"):
            raise ConfigurationError(
                "TASKFLOW_DATABASE_URL: an in-memory SQLite store would lose accepted tasks; name a file"
            )
        self._clock = clock
        self._write_lock = threading.RLock()
        # Whoever is patient takes this one first: only one of them is at the writer beside those who are not.
        self._patience = threading.RLock()
        self._writer: Any = None
        self._log_path = ""
        self._writer_waits = True  # synchronous=FULL, as connections start
        self._busy_timeout_ms = int(busy_timeout_seconds * 1000)
        self._closed = False
        self.engine = sa.create_engine(
            url,
            connect_args={
                "check_same_thread": False,
                "timeout": busy_timeout_seconds,
                "cached_statements": 512,  # inserts of every small number of rows among them
            },
            pool_size=readers,
            max_overflow=readers,
        )
        sa.event.listen(self.engine, "connect", self._configure)

    @contextmanager
    def write(self, *, durable: bool, patient: bool) -> Iterator[Transaction]:
        waits_inside = durable and not patient
        with self._patience if patient else nullcontext(), self._write_lock, translated():
            driver = self.writer()
            if waits_inside is not self._writer_waits:
                driver.execute(f"PRAGMA synchronous={'FULL' if waits_inside else 'NORMAL'}")
                self._writer_waits = waits_inside
            driver.execute("BEGIN IMMEDIATE")
            try:
                tx = Transaction(driver.cursor(), self._clock.now_us)
                yield tx
                tx.end()
                driver.execute("COMMIT")
            except BaseException:
                if driver.in_transaction:
                    driver.execute("ROLLBACK")
                raise
        if durable and patient:
            self._sync_log()

    @contextmanager
    def read(self, *, unlimited: bool) -> Iterator[sa.Connection]:
        self._check_open()
        with translated(), self.engine.connect() as connection:
            yield connection

    def read_rows(self, statement: Prepared, parameters: dict[str, Any]) -> list[Sequence[Any]]:
        self._check_open()
        with translated():
            pooled = self.engine.raw_connection()
            try:
                return Transaction(pooled.cursor(), self._clock.now_us).rows(
                    statement, **parameters
                )
            finally:
                pooled.close()

    def now(self) -> int:
        return self._clock.now_us()

    def close(self) -> None:
        self._closed = True
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self.engine.dispose()

    def writer(self) -> Any:
        """The driver's connection that writes. Hold the lock: only inside `write`."""
        self._check_open()
        if self._writer is None:
            connection = self.engine.raw_connection()
            self._writer = connection.driver_connection
            connection.detach()
            _, _, path = self._writer.execute("PRAGMA database_list").fetchone()
            self._log_path = f"{path}-wal"
        return self._writer

    def _sync_log(self) -> None:
        """All that has been committed is on disk once this returns: what ``synchronous=FULL`` does inside of `COMMIT`,
        while others use the writer. Where a checkpoint has emptied the log meanwhile, it has synced what it moved."""
        try:
            log = os.open(self._log_path, os.O_RDWR)
            try:
                _sync(log)
            finally:
                os.close(log)
        except OSError as exc:
            raise CommitUnknownError(f"the store's log did not reach the disk: {exc}") from exc

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("this TaskFlow has been stopped; its store is closed")

    def _configure(self, driver: sqlite3.Connection, _record: Any) -> None:
        driver.isolation_level = None  # transactions are begun and ended here, not by the driver
        driver.create_function(UNICODE_LOWER, 1, unicode_lower, deterministic=True)
        for pragma in (
            f"busy_timeout={self._busy_timeout_ms}",
            "journal_mode=WAL",
            "synchronous=FULL",
            f"wal_autocheckpoint={_WAL_AUTOCHECKPOINT_PAGES}",
            f"cache_size=-{_CACHE_KIB}",
            "temp_store=MEMORY",
        ):
            driver.execute(f"PRAGMA {pragma}")
