"""A connection that breaks in the commit: what was to happen happens once, whether the commit arrived or not."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import migrate
from taskflow.core.ids import UUID7
from taskflow.core.submission import Accepted
from taskflow.core.task import TaskStatus
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness, outcome
from tests.support.cutting_proxy import Cut, CuttingProxy, cutting_proxy

CUTS: tuple[Cut, ...] = ("commit", "answer")


@pytest.fixture
def proxy(postgres_store: str) -> Iterator[CuttingProxy]:
    port = urlsplit(postgres_store).port
    assert port is not None
    with cutting_proxy(port) as proxy:
        yield proxy
        assert proxy.cuts == 1


@pytest.fixture
def harness(postgres_store: str, proxy: CuttingProxy) -> Iterator[MetadataHarness]:
    clock = FakeClock()
    parts = urlsplit(postgres_store)
    url = parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}").geturl()
    database = Database(url, clock=clock)
    migrate(database)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("key", [None, "k"])
def test_a_submission(
    harness: MetadataHarness, proxy: CuttingProxy, cut: Cut, key: str | None
) -> None:
    task = harness.new(idempotency_key=key, request_hash=key and "h", tags=("a",))
    proxy.cut_next(cut)
    result = harness.insert(task, outbox=True)
    [answer] = result.answers
    assert isinstance(answer, Accepted)
    assert (answer.task_id, answer.replayed, len(result.to_send)) == (task.id, False, 1)
    assert (harness.count("tasks"), harness.count("outbox"), harness.count("events")) == (1, 1, 1)


@pytest.mark.parametrize("cut", CUTS)
def test_a_replay_writes_nothing_that_could_be_lost(
    harness: MetadataHarness, proxy: CuttingProxy, cut: Cut
) -> None:
    first = harness.accepted(idempotency_key="k", request_hash="h")
    proxy.cut_next(cut)
    [answer] = harness.insert(harness.new(idempotency_key="k", request_hash="h")).answers
    assert isinstance(answer, Accepted)
    assert (answer.task_id, answer.replayed) == (first.task_id, True)
    assert harness.count("tasks") == 1


@pytest.mark.parametrize("cut", CUTS)
def test_a_claim(harness: MetadataHarness, proxy: CuttingProxy, cut: Cut) -> None:
    key = harness.accepted()
    proxy.cut_next(cut)
    [task] = harness.claim(key)
    assert task.attempt == 1
    assert harness.finish(outcome(task, TaskStatus.COMPLETED)).fenced == []
    assert harness.history(key) == ["submitted", "started", "completed"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.RETRYING])
def test_a_finish(
    harness: MetadataHarness, proxy: CuttingProxy, cut: Cut, status: TaskStatus
) -> None:
    key = harness.accepted()
    child = harness.accepted(depends_on=(key.task_id,))
    [task] = harness.claim(key)
    proxy.cut_next(cut)
    result = harness.finish(outcome(task, status), outbox=True)
    released = child if status is TaskStatus.COMPLETED else key
    assert (result.fenced, [entry.message.task_id for entry in result.to_send]) == (
        [], [released.task_id],
    )  # fmt: skip
    assert harness.history(key)[2:] == [status.value]
    assert harness.count("outbox") == 1


@pytest.mark.parametrize("cut", CUTS)
def test_a_finish_that_looks_like_one_of_before(
    harness: MetadataHarness, proxy: CuttingProxy, cut: Cut
) -> None:
    """A task that runs anew counts its attempts from one again."""
    key = harness.accepted()
    harness.run(key, TaskStatus.COMPLETED)
    harness.tasks.redrive([key], delay_seconds=[0.0], max_queue_delay_seconds=0, outbox=False)
    [task] = harness.claim(key)
    proxy.cut_next(cut)
    assert harness.finish(outcome(task, TaskStatus.COMPLETED)).fenced == []
    assert harness.status(key) == "completed"
    assert harness.history(key).count("completed") == 2
