"""The same services on PostgreSQL, where they differ: several writers, a clock of its own, connections that break."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.postgresql import PostgresqlOptions
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.errors import CommitUnknownError, StoreUnavailableError
from taskflow.core.retry import Retry
from taskflow.core.submission import Accepted
from taskflow.core.task import DEFAULT_TENANT
from tests.integration.services.conftest import Engine, Engines, ids, noop

# All of 30 tasks take three times the statement timeout of the tests, a quarter of them is well below it.
IMPATIENT = {"database_statement_timeout_seconds": 0.5}
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.05); RETURN coalesce(NEW, OLD); END $$;
"""
SLOW_EVENTS = "CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slow()"
SLOW_DELETION = "CREATE TRIGGER slow BEFORE DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION slow()"


@pytest.fixture
def engines(tmp_path: Path, postgres_store: str) -> Iterator[Callable[..., Engine]]:
    made = Engines(tmp_path / "home")
    yield lambda **settings: made(database_url=postgres_store, **settings)
    for engine in made.made:
        engine.runtime.close()


@pytest.fixture
def engine(engines: Callable[..., Engine]) -> Engine:
    return engines()


def break_connection(tx: Transaction, database: Database) -> None:
    """As a failover does, in the middle of a transaction."""
    tx._cursor.execute("SELECT pg_backend_pid()")
    [pid] = tx._cursor.fetchone()
    with database.engine.connect() as other:
        other.execute(sa.text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})


def test_a_task_goes_all_the_way(engine: Engine) -> None:
    task = engine.handler(noop)
    parent = engine.submit(task, {"ü": ["😀", 2**63 - 1, 1.5, None]}, tags=["a"], metadata={"k": 1})
    child = engine.submit(task, depends_on=[parent])
    engine.fail(engine.start_one(), Retry(delay=0))
    assert engine.work() == 2
    stored = engine.get(parent)
    assert (stored.status, stored.attempt) == ("completed", 2)
    assert stored.result == {"ü": ["😀", 2**63 - 1, 1.5, None]}
    assert engine.status(child) == "completed"
    assert engine.runtime.insights.metrics(None)["queue"]["completed_count"] == 2
    assert engine.runtime.retention.run_once() == 0


def test_two_processes_answer_one_key_with_one_task(engines: Callable[..., Engine]) -> None:
    processes = [engines() for _ in range(3)]
    task = processes[0].handler(noop)
    answers: list[Accepted] = []
    barrier = threading.Barrier(9)

    def submit(engine: Engine) -> None:
        barrier.wait()
        mine = [engine.answer(task, idempotency_key=f"key {n}") for n in range(10)]
        answers.extend(mine)

    threads = [threading.Thread(target=submit, args=(e,)) for e in processes * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 90
    made = {answer.task_id for answer in answers}
    assert len(made) == 10 == processes[0].count("tasks")
    assert sum(not answer.replayed for answer in answers) == 10


def test_a_dead_worker_is_known_by_its_lease_only(engines: Callable[..., Engine]) -> None:
    dead, alive = engines(lease_seconds=1), engines(lease_seconds=1)
    task_id = dead.submit(dead.handler(noop))
    dead.start_one()
    dead.runtime.liveness.release(dead.runtime.worker_id)
    assert alive.runtime.recovery.run_once() == 0
    with alive.runtime.database.engine.begin() as connection:  # one second, without waiting for it
        connection.execute(sa.text("UPDATE tasks SET lease_until = lease_until - 2000000"))
    assert alive.runtime.recovery.run_once() == 0
    alive.clock.advance(0.4)
    assert alive.runtime.recovery.run_once() == 1
    assert alive.status(task_id) == "pending"


def test_a_dead_workers_task_that_somebody_holds_is_taken_over_when_it_is_free(
    engines: Callable[..., Engine],
) -> None:
    dead, alive = engines(lease_seconds=1), engines(lease_seconds=1)
    task = dead.handler(noop)
    held, free = dead.submit(task), dead.submit(task)
    assert len(dead.start(2)) == 2
    with alive.runtime.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE tasks SET lease_until = lease_until - 2000000"))
    assert alive.runtime.recovery.run_once() == 0
    alive.clock.advance(0.4)
    with alive.runtime.database.engine.begin() as connection:
        connection.execute(sa.text(f"SELECT 1 FROM tasks WHERE id = '{held}' FOR KEY SHARE"))
        assert alive.runtime.recovery.run_once() == 1
    assert (alive.status(held), alive.status(free)) == ("running", "pending")
    assert alive.runtime.recovery.run_once() == 1
    assert alive.status(held) == "pending"


def test_dead_workers_tasks_that_are_too_many_for_the_statement_timeout_are_taken_over_in_parts(
    engines: Callable[..., Engine],
) -> None:
    dead = engines(lease_seconds=1)
    alive = engines(lease_seconds=1, **IMPATIENT)
    task = dead.handler(noop)
    answers = dead.runtime.submissions.submit(DEFAULT_TENANT, [dead.ask(task) for _ in range(30)])
    assert len(dead.start(30)) == 30
    with dead.runtime.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE tasks SET lease_until = lease_until - 2000000"))
        connection.execute(sa.text(SLOW + SLOW_EVENTS))
    assert alive.runtime.recovery.run_once() == 0
    alive.clock.advance(0.4)
    assert alive.runtime.recovery.run_once() == 30
    found = alive.runtime.tasks.get_many(DEFAULT_TENANT, ids(answers))
    assert {(t.status.value, t.crash_count) for t in found} == {("pending", 1)}


def test_tasks_that_expire_and_are_too_many_for_the_statement_timeout_expire_in_parts(
    engines: Callable[..., Engine],
) -> None:
    engine, impatient = engines(), engines(**IMPATIENT)
    task = engine.handler(noop)
    asked = [engine.ask(task, expires_in=3_600) for _ in range(30)]
    answers = engine.runtime.submissions.submit(DEFAULT_TENANT, asked)
    with engine.runtime.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE tasks SET expires_at = 1"))
        connection.execute(sa.text(SLOW + SLOW_EVENTS))
    impatient.runtime.recovery.run_once()
    found = engine.runtime.tasks.get_many(DEFAULT_TENANT, ids(answers))
    assert {t.status.value for t in found} == {"expired"}


def test_old_tasks_that_are_too_many_for_the_statement_timeout_are_deleted_in_parts(
    engines: Callable[..., Engine],
) -> None:
    engine, impatient = engines(), engines(retention_days=1e-9, **IMPATIENT)
    task = engine.handler(noop)
    engine.runtime.submissions.submit(DEFAULT_TENANT, [engine.ask(task) for _ in range(30)])
    assert engine.work() == 30
    with engine.runtime.database.engine.begin() as connection:
        connection.execute(sa.text(SLOW + SLOW_DELETION))
    assert impatient.runtime.retention.run_once() == 30
    assert engine.count("tasks") == 0


def test_processes_that_recover_at_once_take_each_task_over_once(
    engines: Callable[..., Engine],
) -> None:
    dead, *alive = [engines(lease_seconds=1) for _ in range(5)]
    task = dead.handler(noop)
    answers = dead.runtime.submissions.submit(DEFAULT_TENANT, [dead.ask(task) for _ in range(600)])
    assert len(dead.start(600)) == 600  # two of recovery's batches
    with dead.runtime.database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE tasks SET lease_until = lease_until - 2000000"))
    assert [engine.runtime.recovery.run_once() for engine in alive] == [0] * 4
    dead.clock.advance(0.4)
    barrier = threading.Barrier(len(alive))
    taken: list[int] = []

    def recover(engine: Engine) -> None:
        barrier.wait()
        taken.append(engine.runtime.recovery.run_once())

    threads = [threading.Thread(target=recover, args=(engine,)) for engine in alive]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 4, "one of them failed"
    assert sum(taken) == 600
    found = dead.runtime.tasks.get_many(DEFAULT_TENANT, ids(answers))
    assert {(t.status.value, t.crash_count) for t in found} == {("pending", 1)}
    with dead.runtime.database.read() as connection:
        recovered = sa.text("SELECT task_id FROM events WHERE type = 'task.recovered'")
        assert sorted(connection.scalars(recovered)) == sorted(ids(answers))


def test_a_connection_that_breaks_before_the_commit_wrote_nothing(engine: Engine) -> None:
    database = engine.runtime.database

    def work() -> None:
        with database.write() as tx:
            break_connection(tx, database)
            tx._cursor.execute("SELECT 1")

    with pytest.raises(StoreUnavailableError) as error:
        work()
    assert not isinstance(error.value, CommitUnknownError)
    engine.submit(engine.handler(noop))


def test_a_connection_that_breaks_in_the_commit_leaves_it_open_what_was_written(
    engine: Engine,
) -> None:
    database = engine.runtime.database
    with pytest.raises(CommitUnknownError), database.write() as tx:
        break_connection(tx, database)
    engine.submit(engine.handler(noop))


def test_all_connections_in_use_is_an_error_that_passes(engines: Callable[..., Engine]) -> None:
    engine = engines()
    database = Database(
        str(engine.runtime.settings.database_url),
        clock=engine.clock,
        postgresql=PostgresqlOptions(pool_size=1, max_overflow=0, pool_timeout_seconds=0.05),
    )
    with database.write(), pytest.raises(StoreUnavailableError, match="in use"):
        database.now()
    assert database.now()
    database.close()


def test_concurrent_workers_run_every_task_once(engines: Callable[..., Engine]) -> None:
    processes = [engines() for _ in range(3)]
    task = processes[0].handler(noop)
    processes[0].runtime.submissions.submit(
        DEFAULT_TENANT, [processes[0].ask(task, n) for n in range(200)]
    )
    for engine in processes[1:]:
        engine.runtime.relay.rebuild()
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda e=engine: counts.append(e.work()))  # type: ignore[misc]
        for engine in processes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 200
    assert processes[0].runtime.insights.metrics(None)["queue"]["completed_count"] == 200
