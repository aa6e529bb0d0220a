"""How often a batch goes to PostgreSQL: claiming is one statement, and so is writing down how attempts ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import psycopg2.extensions
import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.core.ids import UUID7
from taskflow.core.task import TaskStatus
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness, outcome

S = TaskStatus


class _Counting(psycopg2.extensions.cursor):
    texts: ClassVar[list[str]] = []

    def execute(self, query: Any, parameters: Any = None) -> None:
        _Counting.texts.append(query.decode() if isinstance(query, bytes) else str(query))
        super().execute(query, parameters)


@pytest.fixture
def harness(postgres_store: str) -> Iterator[MetadataHarness]:
    clock = FakeClock()
    database = Database(postgres_store, clock=clock)

    def count(driver: Any, _record: Any) -> None:
        driver.cursor_factory = _Counting

    sa.event.listen(database.engine, "connect", count)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()


def round_trips(ask: Callable[[], object]) -> list[str]:
    """The first word of all that each of them said, between semicolons if that was more than one thing to write."""
    _Counting.texts = []
    ask()
    return [_words(text) for text in _Counting.texts]


def _words(text: str) -> str:
    first, last = text.split(maxsplit=1)[0].rstrip(";"), text.rpartition("; ")[2]
    return f"{first}; {last}" if last == "COMMIT" and first != last else first


def test_a_claim_is_one_statement(harness: MetadataHarness) -> None:
    keys = [harness.accepted() for _ in range(100)]
    assert round_trips(lambda: harness.claim(*keys)) == ["BEGIN", "WITH", "COMMIT"]


def test_all_that_ended_is_written_down_by_one_statement(harness: MetadataHarness) -> None:
    """The other looks for tasks that depend on them: as of when their rows are locked. Tallies go with the commit."""
    tasks = harness.claim(*(harness.accepted() for _ in range(100)))
    ended = [outcome(task, S.COMPLETED if n % 2 else S.FAILED) for n, task in enumerate(tasks)]
    again = [outcome(task, S.RETRYING, retry_delay_seconds=1) for task in tasks[:10]]
    assert round_trips(lambda: harness.finish(*again)) == ["BEGIN", "WITH", "COMMIT"]
    completed, failed = ended[11::2], ended[10::2]
    both = ["BEGIN", "WITH", "SELECT", "INSERT; COMMIT"]
    assert round_trips(lambda: harness.finish(*completed)) == both
    assert round_trips(lambda: harness.finish(*failed)) == both
    counts = harness.insights.counts(None).by_status
    assert {status for status, count in counts.items() if count} == {
        S.COMPLETED,
        S.FAILED,
        S.RETRYING,
    }
    assert [counts[status] for status in (S.COMPLETED, S.FAILED, S.RETRYING)] == [45, 45, 10]
