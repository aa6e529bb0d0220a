"""A new SQLite store is made at once, an old one by migrations: both become the same store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import HEAD, migrate, upgrade
from taskflow.testing.clock import FakeClock


def test_a_store_made_at_once_is_the_one_that_all_migrations_lead_to(tmp_path: Path) -> None:
    at_once = Database(f"sqlite:///{tmp_path / 'at-once.db'}", clock=FakeClock())
    migrated = Database(f"sqlite:///{tmp_path / 'migrated.db'}", clock=FakeClock())
    migrate(at_once)
    with migrated.read() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        upgrade(migrated, connection, None)
        connection.commit()
    made, expected = _described(at_once), _described(migrated)
    assert len(expected["objects"]) > 20
    for part, described in expected.items():
        assert made[part] == described, part
    assert made["revision"] == [(HEAD,)]
    assert migrate(migrated) == HEAD
    at_once.close()
    migrated.close()


def _described(database: Database) -> dict[str, Any]:
    """Everything that SQLite knows about a store's shape; the text of a table only as far as it is not its columns,
    which a migration may have added behind its constraints."""
    with database.read() as connection:

        def rows(query: str, *values: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in connection.exec_driver_sql(query, values)]

        tables = [
            name
            for (name,) in rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
        ]
        indexes = [
            name
            for (name,) in rows("SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY 1")
        ]
        return {
            "objects": rows("SELECT type, name, tbl_name FROM sqlite_master ORDER BY 1, 2"),
            "tables": rows("SELECT name, ncol, wr, strict FROM pragma_table_list ORDER BY 1"),
            "autoincrement": rows(
                "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'"
            ),
            "columns": {name: rows("SELECT * FROM pragma_table_xinfo(?)", name) for name in tables},
            "foreign keys": {
                name: rows("SELECT * FROM pragma_foreign_key_list(?)", name) for name in tables
            },
            "unique and partial": {
                name: sorted(row[1:] for row in rows("SELECT * FROM pragma_index_list(?)", name))
                for name in tables
            },
            "index columns": {
                name: rows("SELECT * FROM pragma_index_xinfo(?)", name) for name in indexes
            },
            "index texts": [
                (name, " ".join((text or "").split()))
                for name, text in rows(
                    "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY 1"
                )
            ],
            "statistics": rows("SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY 1, 2"),
            "revision": rows("SELECT version_num FROM alembic_version"),
            "settings": [
                rows(f"PRAGMA {name}") for name in ("page_size", "user_version", "encoding")
            ],
        }
