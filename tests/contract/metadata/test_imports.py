"""Who must not meet an import does not: what a backup brings back is not to be taken for left over."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import migrate
from taskflow.core.errors import StoreUnavailableError
from taskflow.core.ids import UUID7
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness
from tests.support.postgres import BLOCKED
from tests.support.waiting import wait_for

Rows = Iterator[tuple[str, Mapping[str, Any]]]


@pytest.fixture
def harness(store_url: str) -> Iterator[MetadataHarness]:
    """On SQLite nobody waits for long."""
    clock = FakeClock()
    database = Database(store_url, clock=clock, busy_timeout_seconds=0.1)
    migrate(database)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()


def test_nobody_is_without_imports_while_one_is_under_way(harness: MetadataHarness) -> None:
    harness.accepted()
    rows = list(harness.maintenance.export())

    def while_it_runs() -> Rows:
        with (
            pytest.raises(StoreUnavailableError, match=r"restored|write lock"),
            harness.maintenance.without_imports(),
        ):
            pass
        yield from rows

    assert harness.maintenance.import_rows(while_it_runs()) == len(rows)
    with harness.maintenance.without_imports():
        assert list(harness.maintenance.export()) == rows


def test_an_import_begins_when_nobody_has_to_be_without_it(harness: MetadataHarness) -> None:
    asked = threading.Event()

    def rows() -> Rows:
        asked.set()
        yield from ()

    def import_rows() -> None:
        try:
            harness.maintenance.import_rows(rows())
        except StoreUnavailableError:
            assert harness.database.is_sqlite

    def waits() -> bool:
        with harness.database.read() as connection:
            return bool(connection.scalar(sa.text(BLOCKED)))

    importing = threading.Thread(target=import_rows, daemon=True)
    with harness.maintenance.without_imports():
        importing.start()
        if harness.database.is_sqlite:
            importing.join()
        else:
            wait_for(waits, "the import waits")
        assert not asked.is_set()
    importing.join()
    assert asked.is_set() is not harness.database.is_sqlite
