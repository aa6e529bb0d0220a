"""PostgreSQL databases with TaskFlow's tables, used by one test after another.

To make one and to drop it takes a third of a second, a fifth of it CPU; to empty it, a hundredth. What a test has
changed beside rows, or still uses, is not used again.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, NamedTuple

import psycopg2

from tests.support.postgres import Postgres
from tests.support.waiting import wait_for

_MOST_TIMES = 50  # dead rows add up
_MOST_BYTES = 4 << 20
_KEPT = "taskflow_version"  # says which migrations there were

_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
_BYTES = "SELECT sum(pg_table_size(quote_ident(tablename)::regclass)) FROM pg_tables WHERE schemaname = 'public'"
_RESTART = "SELECT setval(quote_ident(sequencename), 1, false) FROM pg_sequences WHERE schemaname = 'public'"
_FUNCTIONS = (
    "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
)
# All that a test may change beside rows.
_SHAPE = """
SELECT md5(string_agg(line, ' ' ORDER BY line)) FROM (
    SELECT concat('schema ', nspname) line FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'
    UNION ALL
    SELECT concat('relation ', relname, relkind, reloptions, relacl) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat('column ', attrelid::regclass, attname, atttypid, attnotnull, attisdropped)
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace AND attnum > 0
    UNION ALL
    SELECT concat('constraint ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat('index ', pg_get_indexdef(indexrelid), indisvalid)
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat('trigger ', tgrelid::regclass, tgname) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT concat('function ', pg_get_functiondef(oid)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat('version ', version_num) FROM taskflow_version
    UNION ALL
    SELECT concat('setting ', setrole, setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
    WHERE datname = current_database()
    UNION ALL
    SELECT concat('database ', datacl, datconnlimit, datallowconn) FROM pg_database WHERE datname = current_database()
) lines
"""


class _Made(NamedTuple):
    shape: str
    functions: list[str]
    times: int


class StorePool:
    """``template``: the name of a database with TaskFlow's tables, without rows. Not thread safe."""

    def __init__(self, server: Postgres, template: str) -> None:
        self._server = server
        self._template = template
        self._made: dict[str, _Made] = {}
        self._free: list[str] = []

    def take(self) -> str:
        """URL of a database that nobody else uses, with no rows."""
        if self._free:
            return self._free.pop()
        url = self._server.create(template=self._template)
        with closing(psycopg2.connect(url)) as connection:
            cursor = connection.cursor()
            self._made[url] = _Made(
                _values(cursor, _SHAPE)[0], _values(cursor, _FUNCTIONS), times=0
            )
        return url

    def give_back(self, url: str) -> None:
        made = self._made.pop(url)
        if made.times < _MOST_TIMES and _is_as_new(url, made):
            self._made[url] = made._replace(times=made.times + 1)
            self._free.append(url)
        else:
            self._server.drop(url)

    def close(self) -> None:
        for url in self._made:
            self._server.drop(url)


def _is_as_new(url: str, made: _Made) -> bool:
    """Empties it, if that makes it what it was."""
    try:
        with closing(
            psycopg2.connect(url, options="-c default_transaction_read_only=off")
        ) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            # Of a connection that was just closed, the server's end takes a moment.
            wait_for(lambda: _values(cursor, _OTHERS) == [0], "nobody else uses it", seconds=0.3)
            if _values(cursor, _BYTES)[0] > _MOST_BYTES:
                return False
            tables = [name for name in _values(cursor, _TABLES) if name != _KEPT]
            statements = [f'DELETE FROM "{name}"' for name in tables] + made.functions
            cursor.execute(";\n".join([*statements, _RESTART]))
            return _values(cursor, _SHAPE) == [made.shape]
    except (psycopg2.Error, AssertionError):
        return False


def _values(cursor: Any, statement: str) -> list[Any]:
    cursor.execute(statement)
    return [row[0] for row in cursor.fetchall()]
