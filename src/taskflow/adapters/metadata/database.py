"""One database, SQLite or PostgreSQL: statements compiled for it, and its transactions.

Statements are built with SQLAlchemy Core and compiled once, when first used (`Database.prepare`); the hot path then
runs the compiled text on the driver's own connection, because an execution through SQLAlchemy costs several times the
row work itself (docs/decisions/sqlalchemy-core.md). Connections and transactions are `SqliteConnections` and
`PostgresqlConnections`. A batch travels as one JSON parameter (`batch.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from taskflow.adapters.metadata.postgresql import PostgresqlConnections, PostgresqlOptions
from taskflow.adapters.metadata.replica import Replica
from taskflow.adapters.metadata.secret import Credentials
from taskflow.adapters.metadata.sqlite import SqliteConnections
from taskflow.adapters.metadata.transaction import Prepared, Transaction
from taskflow.core.errors import ConfigurationError
from taskflow.ports.clock import Clock

T = TypeVar("T")

_HOST = r"[\w.-]+(?::\d+)?"
_SEVERAL_HOSTS = re.compile(
    rf"(?P<before>[\w+]+://(?:[^@/]*@)?)(?P<hosts>{_HOST}(?:,{_HOST})+)(?P<after>[/?].*)?"
)


class Connections(Protocol):
    """What the two have in common. All raise StoreUnavailableError, once closed, too."""

    engine: sa.Engine

    def write(self, *, durable: bool, patient: bool) -> AbstractContextManager[Transaction]: ...

    def read(self, *, unlimited: bool) -> AbstractContextManager[sa.Connection]: ...

    def read_rows(self, statement: Prepared, parameters: dict[str, Any]) -> list[Sequence[Any]]: ...

    def now(self) -> int: ...

    def close(self) -> None: ...


class Database:
    """Thread safe. ``clock`` is SQLite's idea of the time; PostgreSQL has its own."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        busy_timeout_seconds: float = 5.0,
        readers: int = 5,
        postgresql: PostgresqlOptions = PostgresqlOptions(),  # noqa: B008 - immutable
        credentials: Credentials | None = None,
        replica_url: str = "",
    ) -> None:
        self.url = _parsed(url, "TASKFLOW_DATABASE_URL")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.connections: Connections
        match self.url.get_backend_name():
            case "sqlite":
                self.connections = SqliteConnections(
                    self.url,
                    clock=clock,
                    busy_timeout_seconds=busy_timeout_seconds,
                    readers=readers,
                )
            case "postgresql":
                self.connections = PostgresqlConnections(self.url, postgresql, credentials)
            case other:
                raise ConfigurationError(
                    f"TASKFLOW_DATABASE_URL: {other} is not supported; use sqlite or postgresql"
                )
        self.engine = self.connections.engine
        self._replica: Replica | None = None
        if replica_url:
            setting = "TASKFLOW_DATABASE_REPLICA_URL"
            url_there = _parsed(replica_url, setting)
            if {self.url.get_backend_name(), url_there.get_backend_name()} != {"postgresql"}:
                raise ConfigurationError(f"{setting} is for PostgreSQL only")
            self._replica = Replica(
                PostgresqlConnections(url_there, postgresql, credentials, setting=setting)
            )

    @property
    def address(self) -> str:
        """The URL as it may be shown: libpq takes passwords in the query, too."""
        return self.url.difference_update_query(["password", "sslpassword"]).render_as_string()

    # --- statements -----------------------------------------------------------------------------

    def prepare(self, statement: sa.sql.expression.ClauseElement) -> Prepared:
        return Prepared(partial(statement.compile, dialect=self.engine.dialect), returns_json=False)

    def prepare_rows(self, statement: sa.Select[Any]) -> Prepared:
        """On SQLite all rows come back as one JSON text: Python's driver gives up the GIL for every row it steps to,
        and beside busy threads each of these hand-overs may cost a switch interval (5 ms)."""
        if not self.is_sqlite:
            return self.prepare(statement)

        def compiled() -> Any:
            inner = statement.subquery("r")
            row = sa.func.json_array(*inner.c)
            wrapped = sa.select(sa.func.json_group_array(row)).select_from(inner)
            return wrapped.compile(dialect=self.engine.dialect)

        return Prepared(compiled, returns_json=True)

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that can say ON CONFLICT. Only this database's dialect is imported: they take their time."""
        return import_module(f"sqlalchemy.dialects.{self.url.get_backend_name()}").insert(table)

    # --- transactions ---------------------------------------------------------------------------

    def write(
        self, *, durable: bool = True, patient: bool = False
    ) -> AbstractContextManager[Transaction]:
        """A transaction that commits when the block ends and rolls back when it raises.

        With ``durable=False`` the commit does not wait for the disk: a power cut (not a crash of processes) may undo
        it, never without undoing what came after it. For what may be forgotten, such as a lease. With ``patient=True``
        others go first where there is one writer (SQLite), and do not have to wait for this one's disk: for large
        batches that nobody is kept waiting by; others may see them a moment before they are durable. Raises
        CommitUnknownError when a connection breaks in the commit itself.
        """
        return self.connections.write(durable=durable, patient=patient)

    def read(self, *, unlimited: bool = False) -> AbstractContextManager[sa.Connection]:
        """A snapshot through SQLAlchemy, for queries that are composed as they come. ``unlimited``: statements may take
        as long as they need (whole-store operations)."""
        return self.connections.read(unlimited=unlimited)

    def ask(self, question: Callable[[sa.Connection], T]) -> T:
        """`read` for what may lag a little: on the replica, if there is one and it answers. ``question`` may be asked
        twice."""

        def here() -> T:
            with self.read() as connection:
                return question(connection)

        return here() if self._replica is None else self._replica.ask(question, otherwise=here)

    def read_rows(self, statement: Prepared, **parameters: Any) -> list[Sequence[Any]]:
        """The rows of a statement made by `prepare_rows`, for the reads that are made all the time."""
        return self.connections.read_rows(statement, parameters)

    def now(self) -> int:
        """Database time outside of a transaction."""
        return self.connections.now()

    def close(self) -> None:
        """What comes later gets StoreUnavailableError."""
        self.connections.close()
        if self._replica is not None:
            self._replica.close()


def _parsed(url: str, setting: str) -> sa.URL:
    """Several hosts may stand in it as libpq has them (``//user@one:5432,two:5432/db``)."""
    several = _SEVERAL_HOSTS.fullmatch(url)
    hosts = several["hosts"].split(",") if several else ()
    try:
        parsed = sa.make_url(several["before"] + (several["after"] or "") if several else url)
        return parsed.update_query_pairs([("host", host) for host in hosts], append=True)
    except sa.exc.ArgumentError as exc:
        raise ConfigurationError(f"{setting} is not a database URL: {exc}") from exc
    except ValueError:  # which names what it took for the port: it may be part of a password
        raise ConfigurationError(
            f"{setting} is not a database URL: the port is not a number"
        ) from None
