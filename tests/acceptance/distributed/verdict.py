"""Looks at what was left behind with nothing but PostgreSQL: the engine is not asked about itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from itertools import pairwise
from typing import Any

import psycopg2

_FINAL = "('completed', 'failed', 'cancelled', 'expired')"


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def unfinished(url: str) -> int:
    [(count,)] = rows(url, f"SELECT count(*) FROM tasks WHERE status NOT IN {_FINAL}")
    return int(count)


def stuck(url: str) -> str:
    """What is known of tasks that do not end: their rows and what happened to them."""
    lines = rows(
        url,
        f"""SELECT row_to_json(t)::text, (SELECT json_agg(e ORDER BY e.id)::text FROM events e
            WHERE e.tenant_id = t.tenant_id AND e.task_id = t.id) FROM tasks t WHERE status NOT IN {_FINAL} LIMIT 5""",
    )
    return "\n".join(f"{task}\n  {events}" for task, events in lines)


def unsent(url: str) -> int:
    """Messages that somebody was sending when it was killed are leased for a while."""
    [(count,)] = rows(url, "SELECT count(*) FROM outbox")
    return int(count)


def judge(
    store: str, witness: str, accepted: Mapping[str, Any], deaths: Mapping[int, float]
) -> None:
    """Nothing lost, nothing twice, nobody inside a task with another."""
    statuses = dict(rows(store, "SELECT id::text, status FROM tasks"))
    lost = accepted.keys() - statuses.keys()
    assert not lost, f"answered, and lost: {sorted(lost)[:5]} of {len(lost)}"
    wrong = {task_id: statuses[task_id] for task_id in accepted if statuses[task_id] != "completed"}
    assert not wrong, f"not completed: {dict(list(wrong.items())[:5])} of {len(wrong)}"
    # What was not answered to its submitter, who asked again with the same key, is the same task.
    assert len(statuses) == len(accepted), "a key made two tasks, or a task was made by nobody"
    results = dict(rows(store, "SELECT task_id::text, result FROM task_results"))
    for task_id, expected in accepted.items():
        assert expected is None or results[task_id] == str(expected), task_id
    twice = rows(
        store,
        "SELECT task_id, count(*) FROM events WHERE type IN "
        "('task.completed', 'task.failed', 'task.cancelled', 'task.expired') "
        "GROUP BY task_id HAVING count(*) > 1",
    )
    assert not twice, f"two outcomes: {twice[:5]}"
    _nobody_met(witness, deaths)


def _nobody_met(witness: str, deaths: Mapping[int, float]) -> None:
    stays: dict[str, list[tuple[float, float, int, int]]] = defaultdict(list)
    for task_id, attempt, pid, entered, left in rows(
        witness, "SELECT task_id::text, attempt, pid, entered, left_at FROM inside"
    ):
        end = left if left is not None else deaths.get(pid)
        assert end is not None, f"{task_id}: attempt {attempt} in {pid} never left"
        stays[task_id].append((entered, end, attempt, pid))
    for task_id, attempts in stays.items():
        attempts.sort()
        for before, after in pairwise(attempts):
            assert before[1] <= after[0], f"two inside {task_id}: {before} and {after}"
