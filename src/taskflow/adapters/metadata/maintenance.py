"""MaintenanceStore: the store as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.database import Database
from taskflow.core.errors import BackupInvalidError, StoreLockedError

_CHUNK = 500
_IMPORT = 0x696D706F72743031  # "import01": an advisory lock of the transaction; on SQLite its one writer will do


class SqlMaintenance:
    def __init__(self, database: Database) -> None:
        self._database = database
        o = schema.outbox
        # Takes the write lock, changes nothing: an outbox row cannot be due before 1970.
        self._probe = database.prepare(o.delete().where(o.c.due_at < sa.literal_column("0")))

    def ping(self) -> None:
        with self._database.write() as tx:
            tx.run(self._probe)

    def export(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        with self._database.read(unlimited=True) as connection:
            if self._database.is_sqlite:
                connection.exec_driver_sql("BEGIN")  # one snapshot for all tables
            else:
                connection.execution_options(isolation_level="REPEATABLE READ")
            for table in schema.metadata.sorted_tables:
                statement = sa.select(table).order_by(*table.primary_key)
                rows = connection.execution_options(yield_per=_CHUNK).execute(statement)
                for row in rows.mappings():
                    yield table.name, dict(row)

    def import_rows(self, rows: Iterator[tuple[str, Mapping[str, Any]]]) -> int:
        count = 0
        with self._database.read(unlimited=True) as connection:
            if self._database.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_IMPORT)))
            for table in reversed(schema.metadata.sorted_tables):
                connection.execute(table.delete())
            for name, group in groupby(rows, key=lambda row: row[0]):
                table = _known(name)
                values = (dict(row) for _, row in group)
                while chunk := list(islice(values, _CHUNK)):
                    for row in chunk:
                        if row.keys() != set(table.c.keys()):
                            raise BackupInvalidError(
                                f"table {name} has other columns than this program's"
                            )
                    try:
                        connection.execute(table.insert(), chunk)
                    except (sa.exc.IntegrityError, sa.exc.DataError) as exc:
                        raise BackupInvalidError(
                            f"rows of table {name} do not fit: {exc.orig}"
                        ) from exc
                    count += len(chunk)
            if not self._database.is_sqlite:
                connection.execute(
                    sa.text(
                        "SELECT setval(pg_get_serial_sequence('events', 'id'), coalesce(max(id), 1)) FROM events"
                    )
                )
            connection.commit()
        return count

    @contextmanager
    def without_imports(self) -> Iterator[None]:
        if self._database.is_sqlite:
            with self._database.write():
                yield
            return
        with self._database.read() as connection:
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock_shared(_IMPORT))):
                raise StoreLockedError("a backup is being restored", retry_after_seconds=1.0)
            yield


def _known(name: str) -> sa.Table:
    table = schema.metadata.tables.get(name)
    if table is None:
        raise BackupInvalidError(f"there is no table {name} in this program")
    return table
