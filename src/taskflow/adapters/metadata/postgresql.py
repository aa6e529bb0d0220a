"""PostgreSQL's side of `Database`: a pool of connections on which nothing outlives its transaction.

Safe behind a proxy that hands every transaction another server connection (RDS Proxy, PgBouncer in transaction mode):
settings are `SET LOCAL`, sent in one round trip with `BEGIN` or with the only statement of a read. That first round
trip is also what finds out that a pooled connection has died while nobody used it; nothing has been done then, so
another one takes its place (docs/decisions/postgresql-connections.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata.secret import Credentials
from taskflow.adapters.metadata.transaction import Prepared, Transaction, fetch
from taskflow.adapters.metadata.vendor_errors import first_line, translate, translated
from taskflow.core.errors import (
    CommitUnknownError,
    ConfigurationError,
    StoreReadOnlyError,
    StoreUnavailableError,
)

_UUID_OID = 2950  # pg_type.dat
_NOW = "SELECT taskflow_now()"
_IN_ERROR = 3  # libpq's PGTransactionStatusType
_ANYTHING = "SELECT 1"  # where nothing has to be set first
_MAX_NAME_BYTES = 63  # of application_name: NAMEDATALEN - 1
# A peer that has gone without a word is noticed within a minute, also in the middle of a statement.
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


@dataclass(frozen=True)
class PostgresqlOptions:
    """How a process connects. A process never holds more than ``pool_size + max_overflow`` connections."""

    application_name: str = "taskflow"
    pool_size: int = 4
    max_overflow: int = 1
    pool_timeout_seconds: float = 5.0
    pool_recycle_seconds: float = 1_800.0
    connect_timeout_seconds: float = 5.0
    statement_timeout_seconds: float = 30.0
    tls: str = "prefer"
    tls_root_cert: str = ""


class PostgresqlConnections:
    """``setting``: where ``url`` comes from."""

    def __init__(
        self,
        url: sa.URL,
        options: PostgresqlOptions,
        credentials: Credentials | None = None,
        *,
        setting: str = "TASKFLOW_DATABASE_URL",
    ) -> None:
        if find_spec("psycopg2") is None:
            raise ConfigurationError(
                f"{setting}: PostgreSQL's driver is not installed: pip install 'taskflow[aws]'"
            )
        self._limit = options.pool_size + options.max_overflow
        self._closed = False
        timeout_ms = int(options.statement_timeout_seconds * 1_000)
        self._local = f"SET LOCAL statement_timeout = {timeout_ms}; " if timeout_ms else ""
        self.engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg2"),
            pool_size=options.pool_size,
            max_overflow=options.max_overflow,
            pool_timeout=options.pool_timeout_seconds,
            pool_recycle=options.pool_recycle_seconds,
            pool_use_lifo=True,  # what is rarely needed is left alone, and a connection just replaced is taken next
            connect_args=_arguments(url, options),
        )
        sa.event.listen(self.engine, "connect", lambda driver, _record: keep_ids_text(driver))
        _check_options(self.engine, setting)
        self._credentials = credentials
        if credentials is not None:
            sa.event.listen(self.engine, "do_connect", self._log_in)

    @contextmanager
    def write(self, *, durable: bool, patient: bool) -> Iterator[Transaction]:
        """``patient`` or not, nobody waits for anybody."""
        wait = "" if durable else "SET LOCAL synchronous_commit = off; "
        with translated():
            pooled, cursor = self._execute(f"BEGIN; {self._local}{wait}{_NOW}")
            try:
                now = int(cursor.fetchone()[0])
                tx = Transaction(cursor, lambda: now)
                yield tx
                last = _WithCommit(cursor)
                tx.end(last)
                last.commit()
            except BaseException as exc:
                _roll_back(pooled, cursor, exc)
                raise
            finally:
                _give_back(pooled)

    @contextmanager
    def read(self, *, unlimited: bool = False) -> Iterator[sa.Connection]:
        with translated():
            connection = self._connect(_ANYTHING if unlimited else self._local or _ANYTHING)
            try:
                if unlimited:
                    connection.rollback()  # that its reader may choose how isolated it is
                yield connection
            finally:
                connection.close()

    def read_rows(self, statement: Prepared, parameters: dict[str, Any]) -> list[Sequence[Any]]:
        text = self._local + statement.text
        with translated():
            pooled, cursor = self._execute(text, statement.parameters(parameters))
            try:
                return fetch(cursor, statement)
            finally:
                _give_back(pooled)

    def now(self) -> int:
        with translated():
            pooled, cursor = self._execute(_NOW)
            try:
                return int(cursor.fetchone()[0])
            finally:
                _give_back(pooled)

    def close(self) -> None:
        self._closed = True
        self.engine.dispose()

    # --- inside ---------------------------------------------------------------------------------

    def _execute(self, text: str, parameters: Mapping[str, Any] | None = None) -> tuple[Any, Any]:
        """A connection and the cursor that ran ``text`` on it: the first round trip of whatever is to be done."""
        self._check_open()
        for attempt in range(self._limit + 1):
            pooled: Any = self.engine.raw_connection()
            try:
                pooled.driver_connection.autocommit = True  # transactions are begun and ended here
                cursor = pooled.cursor()
                cursor.execute(text, parameters)
            except BaseException as exc:
                died = _is_gone(pooled)
                _roll_back(pooled, None, exc)
                _give_back(pooled)
                if died and attempt < self._limit and isinstance(exc, Exception):
                    continue
                raise
            else:
                return pooled, cursor
        raise AssertionError("unreachable")  # pragma: no cover

    def _connect(self, first: str) -> sa.Connection:
        self._check_open()
        for attempt in range(2):
            connection = self.engine.connect()
            try:
                connection.exec_driver_sql(first)
            except sa.exc.DBAPIError as exc:
                connection.close()
                if not exc.connection_invalidated or attempt:  # SQLAlchemy has emptied the pool
                    raise
            else:
                return connection
        raise AssertionError("unreachable")  # pragma: no cover

    def _log_in(
        self, dialect: Any, _record: Any, positional: Sequence[Any], named: Mapping[str, Any]
    ) -> Any:
        """What the URL says itself wins, e.g. the address of a proxy or of a replica."""
        assert self._credentials is not None
        login = self._credentials.current()
        try:
            return dialect.connect(*positional, **{**login, **named})
        except dialect.dbapi.OperationalError:
            newer = self._credentials.renewed(login)
            if newer is None:
                raise
        return dialect.connect(*positional, **{**newer, **named})

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("this TaskFlow has been stopped; its store is closed")


def _arguments(url: sa.URL, options: PostgresqlOptions) -> dict[str, Any]:
    """libpq's words. What the URL says itself (``?sslmode=…``) wins."""
    name = options.application_name.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    arguments: dict[str, Any] = {
        "application_name": name,
        "connect_timeout": max(1, round(options.connect_timeout_seconds)),
        "sslmode": options.tls,
        "client_encoding": "UTF8",  # whatever PGCLIENTENCODING or the role says
        **_KEEPALIVES,
    }
    if options.tls_root_cert:
        arguments["sslrootcert"] = options.tls_root_cert
    return {key: value for key, value in arguments.items() if key not in url.query}


def _check_options(engine: sa.Engine, setting: str) -> None:
    """Of the URL: libpq would find those that it does not know with every connection."""
    from psycopg2 import ProgrammingError, extensions

    positional, named = engine.dialect.create_connect_args(engine.url)
    try:
        extensions.make_dsn(*positional, **named)
    except ProgrammingError as exc:
        raise ConfigurationError(f"{setting}: {first_line(exc)}") from exc


def keep_ids_text(connection_or_cursor: Any) -> None:
    """Ids are text everywhere else; SQLAlchemy would have the driver make objects of them."""
    from psycopg2 import extensions

    as_text = extensions.new_type((_UUID_OID,), "uuid_text", lambda text, _cursor: text)
    extensions.register_type(as_text, connection_or_cursor)


class _WithCommit:
    """Stands in for a cursor: what it is to execute goes to the server together with the commit, in one round trip."""

    rowcount = -1

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._text = b""

    def execute(self, text: str, parameters: Mapping[str, Any]) -> None:
        self._text += self._cursor.mogrify(text, parameters) + b"; "

    def commit(self) -> None:
        cursor = self._cursor
        try:
            cursor.execute(self._text + b"COMMIT")
        except Exception as exc:
            failed_before = cursor.connection.info.transaction_status == _IN_ERROR
            if not failed_before and isinstance(translate(exc), StoreUnavailableError):
                raise CommitUnknownError(
                    f"PostgreSQL did not answer to a commit: {first_line(exc)}"
                ) from exc
            raise
        assert cursor.statusmessage == "COMMIT", (
            "a statement failed, and its error was not passed on"
        )


def _roll_back(pooled: Any, cursor: Any, exc: BaseException) -> None:
    """Never raises: the error that is under way says what happened."""
    # A server that has become read-only is no longer the primary: a new connection finds the one that is.
    demoted = isinstance(exc, Exception) and isinstance(translate(exc), StoreReadOnlyError)
    try:
        if _is_gone(pooled) or demoted:
            pooled.invalidate()
        else:
            (cursor or pooled.cursor()).execute("ROLLBACK")
    except Exception:  # noqa: BLE001 - the connection is broken, and with it the transaction is gone
        pooled.invalidate()


def _is_gone(pooled: Any) -> bool:
    driver = pooled.driver_connection
    return driver is None or bool(driver.closed)


def _give_back(pooled: Any) -> None:
    driver = pooled.driver_connection
    if driver is not None and not driver.closed:
        driver.autocommit = False  # as SQLAlchemy expects it
    pooled.close()
