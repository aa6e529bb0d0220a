"""Fills a PostgreSQL store with many tasks, inside the server: what a system that has run for days would hold."""

from __future__ import annotations

from contextlib import closing

import psycopg2

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import migrate
from taskflow.testing.clock import FakeClock

WAITING = 1_000
_DAYS = 10  # well within the retention
_VACUUMS = 10

# A million final tasks of 20 kinds over ten days: 2 % failed, 0.5 % cancelled. The newest are active: two thirds wait,
# some run, some are due later or expire. Ids are UUIDv7, in the order of creation.
_STATEMENTS = """
CREATE TEMPORARY TABLE made AS
SELECT n, 'default' AS tenant_id, 'task_' || n % 20 AS task, now_us - (count - n) * step_us AS at,
       (lpad(to_hex((now_us - (count - n) * step_us) / 1000), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0')
        || '8' || lpad(to_hex(n), 15, '0'))::uuid AS id,
       CASE WHEN n > count - {waiting} THEN
                CASE n % 6 WHEN 0 THEN 'running' WHEN 1 THEN 'scheduled' ELSE 'pending' END
            WHEN n % 50 = 0 THEN 'failed' WHEN n % 200 = 1 THEN 'cancelled' ELSE 'completed' END AS status,
       n > count - {waiting} AS active
FROM (SELECT n, {tasks}::bigint AS count, taskflow_now() AS now_us, {days} * 86400000000 / {tasks} AS step_us
      FROM generate_series(1, {tasks}) n OFFSET 0) numbers;

INSERT INTO tasks (tenant_id, id, task, status, priority, attempt, max_retries, timeout_seconds, run_at, expires_at,
    created_at, started_at, finished_at, duration_ms, lease_token, lease_until, worker_id, fingerprint)
SELECT tenant_id, id, task, status, n % 4, 1, 3, 300,
       CASE WHEN status = 'scheduled' THEN at + 864000000000 ELSE at END,
       CASE WHEN n % 10 = 0 THEN at + 8640000000000 END, at,
       CASE WHEN status NOT IN ('pending', 'scheduled') THEN at END, CASE WHEN NOT active THEN at + 1000000 END,
       CASE WHEN NOT active THEN 12.5 END, CASE WHEN status = 'running' THEN n END,
       CASE WHEN status = 'running' THEN at + 864000000000 END, CASE WHEN status <> 'pending' THEN 'w' || n % 7 END,
       CASE WHEN status = 'failed' THEN 'f' || n % 5 END
FROM made;
INSERT INTO task_inputs (tenant_id, task_id, arguments, tags, idempotency_key)
SELECT tenant_id, id, '[[' || n || '],{{}}]', CASE WHEN n % 20 = 0 THEN '["a"]' END,
       CASE WHEN n % 10 = 0 THEN 'key-' || n END FROM made;
INSERT INTO task_results (tenant_id, task_id, result, error)
SELECT tenant_id, id, CASE WHEN status = 'completed' THEN '{{"ok":true}}' END,
       CASE WHEN status = 'failed' THEN '{{"type":"ValueError","message":"no","classification":"permanent"}}' END
FROM made WHERE NOT active;
INSERT INTO events (tenant_id, task_id, type, at, attempt)
SELECT tenant_id, id, 'task.' || kind, at, CASE WHEN kind <> 'submitted' THEN 1 END
FROM made, (VALUES (1, 'submitted'), (2, 'started'), (3, 'completed')) kinds (number, kind)
WHERE number <= {events} AND (NOT active OR kind = 'submitted');
INSERT INTO idempotency_keys (tenant_id, key, task_id, request_hash)
SELECT tenant_id, 'key-' || n, id, 'h' FROM made WHERE n % 10 = 0;
INSERT INTO task_tags (tenant_id, tag, task_id) SELECT tenant_id, 'tag-' || n % 100, id FROM made WHERE n % 20 = 0;
INSERT INTO task_dependencies (tenant_id, depends_on, task_id)
SELECT tenant_id, lag(id) OVER (ORDER BY n), id FROM made WHERE n % 20 IN (0, 1) ORDER BY n OFFSET 1;
INSERT INTO outbox (id, tenant_id, task_id, task, priority, due_at)
SELECT id, tenant_id, id, task, n % 4, at + 864000000000 FROM made WHERE status = 'scheduled';
INSERT INTO tallies (tenant_id, hour, task, status, shard, count, duration_ms)
SELECT tenant_id, (at + 1000000) / 3600000000, task, status, 0, count(*), 12.5 * count(*)
FROM made WHERE NOT active GROUP BY 1, 2, 3, 4;
"""


_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = current_schema() AND indexname LIKE 'ix\\_%'
"""


def fill(url: str, tasks: int, *, waiting: int = WAITING, events: int = 3) -> None:
    """Migrate the empty database ``url`` and store ``tasks``, of which the last ``waiting`` are not final, with up to
    ``events`` events each."""
    database = Database(url, clock=FakeClock())
    migrate(database)
    database.close()
    with closing(psycopg2.connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute(_INDEXES)
        indexes = dict(cursor.fetchall())
        cursor.execute("SET LOCAL maintenance_work_mem = '256MB'; SET LOCAL work_mem = '256MB'")
        for name in indexes:  # made again at once, when all rows are there
            cursor.execute(f"DROP INDEX {name}")
        cursor.execute(
            _STATEMENTS.format(tasks=tasks, waiting=min(waiting, tasks), days=_DAYS, events=events)
        )
        for definition in indexes.values():
            cursor.execute(definition)
        connection.commit()
        connection.autocommit = True
        cursor.execute("VACUUM ANALYZE")
        # As vacuum leaves a store sooner or later: one that somebody disturbs, such as autovacuum, leaves less behind.
        for _ in range(_VACUUMS):
            cursor.execute("SELECT relallvisible < relpages FROM pg_class WHERE relname = 'tasks'")
            if not cursor.fetchone()[0]:
                break
            cursor.execute("VACUUM tasks")
