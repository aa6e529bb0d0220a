"""Others on PostgreSQL: no-op tasks with a small argument, four at a time, each as its documentation advises.

Every function runs in a process of its own on an empty database, submits in bulk where the library can, and measures
from the first submission until the last task is recorded as done.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable

from benchmarks.peer import run_on
from benchmarks.postgresql.databases import count
from benchmarks.runs import Run

_LOOK_SECONDS = 0.05
_TIMEOUT_SECONDS = 300.0
_BULK = 1_000


def run_pgqueuer(url: str, tasks: int, workers: int, *, batch_size: int = 10) -> Run:
    """PGQueuer over asyncpg, submitted in bulk, claimed in its default batches. It keeps the status, no result."""
    import asyncpg
    from pgqueuer import PgQueuer
    from pgqueuer.models import Job
    from pgqueuer.types import QueueExecutionMode

    logging.getLogger("pgqueuer").setLevel(logging.ERROR)

    async def main() -> Run:
        connection = await asyncpg.connect(url)
        queue = PgQueuer.from_asyncpg_connection(connection)
        assert queue.queries is not None
        await queue.queries.install()

        @queue.qm.entrypoint("noop")
        async def noop(job: Job) -> None:
            json.loads(job.payload or b"null")

        cpu, began = time.process_time(), time.perf_counter()
        for start in range(0, tasks, _BULK):
            numbers = range(start, min(start + _BULK, tasks))
            await queue.queries.enqueue(
                ["noop"] * len(numbers),
                [json.dumps(n).encode() for n in numbers],
                [0] * len(numbers),
            )
        submitted = time.perf_counter()
        await queue.qm.run(batch_size=batch_size, mode=QueueExecutionMode.drain)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        return Run(tasks, submitted - began, ended - began, cpu)

    run = asyncio.run(main())
    done = count(url, "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'")
    assert done == tasks, f"{done} of {tasks} tasks are recorded as done"
    return run


def run_pgqueuer_by_100(url: str, tasks: int, workers: int) -> Run:
    """The same, claimed by the hundred: the best that was found for a no-op."""
    return run_pgqueuer(url, tasks, workers, batch_size=100)


def run_huey(url: str, tasks: int, workers: int) -> Run:
    """Huey on PostgreSQL, results stored, worker threads in this process."""
    from huey import PostgresHuey

    return run_on(PostgresHuey("benchmark", dsn=url), tasks, workers)


def run_procrastinate(url: str, tasks: int, workers: int) -> Run:
    """Procrastinate, deferred in bulk. It keeps the status, no result."""
    import procrastinate
    from procrastinate.types import JSONDict

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="noop")
    async def noop(n: int) -> int:
        return n

    async def main() -> Run:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            cpu, began = time.process_time(), time.perf_counter()
            for start in range(0, tasks, _BULK):
                numbers = range(start, min(start + _BULK, tasks))
                await noop.batch_defer_async(*(JSONDict({"n": n}) for n in numbers))
            submitted = time.perf_counter()
            await app.run_worker_async(
                concurrency=workers, wait=False, install_signal_handlers=False
            )
            ended, cpu = time.perf_counter(), time.process_time() - cpu
            return Run(tasks, submitted - began, ended - began, cpu)

    run = asyncio.run(main())
    done = count(url, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")
    assert done == tasks, f"{done} of {tasks} tasks are recorded as done"
    return run


def run_dbos(url: str, tasks: int, workers: int) -> Run:
    """DBOS: workflows on a queue, enqueued one by one, results stored."""
    from dbos import DBOS, DBOSConfig

    config = DBOSConfig(name="benchmark", system_database_url=url, log_level="ERROR")
    DBOS(config=config)

    @DBOS.workflow()
    def noop(n: int) -> int:
        return n

    DBOS.launch()
    DBOS.register_queue("benchmark", worker_concurrency=workers, polling_interval_sec=0.05)
    try:
        DBOS.enqueue_workflow("benchmark", noop, 0).get_result()
        cpu, began = time.process_time(), time.perf_counter()
        for n in range(tasks):
            DBOS.enqueue_workflow("benchmark", noop, n)
        submitted = time.perf_counter()
        done = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"
        _wait(lambda: count(url, done) > tasks)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
    finally:
        DBOS.destroy()
    return Run(tasks, submitted - began, ended - began, cpu)


def _wait(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not is_done():
        if time.monotonic() > deadline:
            raise TimeoutError("not all tasks finished")
        time.sleep(_LOOK_SECONDS)
