"""Growth on PostgreSQL: claim, finish, relay, lists and statistics with five million tasks stored, and ten thousand."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.figures import Effort, Figure, command, number
from benchmarks.postgresql.databases import database, server
from benchmarks.postgresql.stored import fill
from taskflow.adapters.clock.system import SystemClock
from taskflow.adapters.metadata.database import Database
from taskflow.bootstrap import Stores, build_stores
from taskflow.core.ids import UUID7
from taskflow.core.submission import NewTask
from taskflow.core.task import DEFAULT_TENANT, TaskStatus
from taskflow.ports.metadata import Outcome, TaskFilter, TaskKey

_FEW = 10_000
_TIMES_STORED = 5  # of what the embedded system is measured with: five million with --full
_AT_MOST = 1.5
_BATCH = 100
_REPEATS = 40
_MAX_DELAY_SECONDS = 900.0

Times = dict[str, list[float]]


class _Store:
    """One filled store, and the operations on it."""

    def __init__(self, url: str) -> None:
        clock = SystemClock()
        self._database = Database(url, clock=clock)
        self._new_id = UUID7(lambda: clock.now_us() // 1_000)
        self._stores: Stores = build_stores(self._database, self._new_id)

    def close(self) -> None:
        self._database.close()

    def round(self, times: Times) -> None:
        """Each operation once. Adds milliseconds to ``times``."""
        stores = self._stores

        def timed(name: str, operation: Callable[[], Any]) -> Any:
            began = time.perf_counter()
            result = operation()
            times.setdefault(name, []).append((time.perf_counter() - began) * 1_000)
            return result

        new = [self._task() for _ in range(_BATCH)]
        keys = [TaskKey(task.tenant_id, task.id) for task in new]
        delay: dict[str, Any] = {"max_queue_delay_seconds": _MAX_DELAY_SECONDS}
        timed(
            f"submit {_BATCH}",
            lambda: stores.submissions.insert(new, max_waiting=0, outbox=False, **delay),
        )
        claimed = timed(
            f"claim {_BATCH}",
            lambda: stores.execution.claim(keys, worker_id="w1", lease_seconds=30),
        ).tasks
        assert len(claimed) == _BATCH
        outcomes = [
            Outcome(t.tenant_id, t.task_id, t.lease_token, TaskStatus.COMPLETED, 1, 1.0, result="7")
            for t in claimed
        ]
        timed(
            f"finish {_BATCH}",
            lambda: stores.execution.finish(outcomes, outbox=False, **delay),
        )
        stores.submissions.insert(
            [self._task() for _ in range(_BATCH)],
            max_waiting=0,
            max_queue_delay_seconds=0.0,
            outbox=True,
        )

        def relay() -> int:
            entries = stores.outbox.lease(lookahead_seconds=1, lease_seconds=30, limit=_BATCH)
            stores.outbox.delete([entry.entry_id for entry in entries if entry.entry_id])
            return len(entries)

        assert timed(f"relay {_BATCH}", relay) == _BATCH
        for name, where in _LISTS.items():
            page = timed(name, partial(self._list, where, None))
            assert page, name
        middle = page[-1].task.task_id
        timed("list: a later page", lambda: self._list(TaskFilter(), middle))
        timed("one task", lambda: stores.tasks.get(DEFAULT_TENANT, [middle]))
        timed("statistics", lambda: stores.insights.counts(None))
        timed("statistics of a tenant", lambda: stores.insights.counts(DEFAULT_TENANT))
        # What waits is to be as much as before, on both.
        rest = [t.task.task_id for t in self._list(_WAITING_HERE, None, limit=_BATCH)]
        stores.tasks.cancel([TaskKey(DEFAULT_TENANT, task_id) for task_id in rest])

    def _list(self, where: TaskFilter, before: str | None, limit: int = 51) -> list[Any]:
        return self._stores.tasks.list(DEFAULT_TENANT, where, limit=limit, before=before)

    def _task(self) -> NewTask:
        return NewTask(
            id=self._new_id(), tenant_id=DEFAULT_TENANT, task="growth", name=None, priority=2, max_retries=3,
            timeout_seconds=300.0, run_at=None, delay_seconds=0.0, expires_at=None, expires_in_seconds=None,
            arguments="[[7],{}]", input_key=None, metadata=None, tags=(), depends_on=(),
            idempotency_key=secrets.token_hex(8), request_hash="h", request_id=None,
        )  # fmt: skip


_WAITING_HERE = TaskFilter(statuses=frozenset({TaskStatus.PENDING}), task="growth")
_LISTS = {
    "list: newest": TaskFilter(),
    "list: running": TaskFilter(statuses=frozenset({TaskStatus.RUNNING})),
    "list: dead letters": TaskFilter(dead_letters=True),
    "list: failed or cancelled": TaskFilter(
        statuses=frozenset({TaskStatus.FAILED, TaskStatus.CANCELLED})
    ),
    "list: one task's": TaskFilter(task="task_7"),
    "list: one tag's": TaskFilter(tag="tag-40"),
}


def measure(effort: Effort, _stored: Path | None = None) -> list[Figure]:
    """Both stores on one server, in turn: the median of each operation, many as a multiple of few."""
    many = effort.stored * _TIMES_STORED
    progress = Console(stderr=True)
    shares: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    with ExitStack() as closing:
        server_url = closing.enter_context(server())
        stores = []
        for tasks in (_FEW, many):
            url = closing.enter_context(database(server_url))
            progress.print(f"storing {tasks:,} tasks", style="dim")
            fill(url, tasks)
            stores.append(_Store(url))
            closing.callback(stores[-1].close)
        for store in stores:  # plans, caches, connections
            store.round({})
        for _ in range(effort.growth_rounds):
            taken: tuple[Times, Times] = ({}, {})
            for _ in range(_REPEATS):
                for store, times in zip(stores, taken, strict=True):
                    store.round(times)
            for name in taken[0]:
                before, after = (statistics.median(times[name]) for times in taken)
                shares.setdefault(name, []).append(after / before)
                notes[name] = f"{number(before)} → {number(after)} ms"
    return [
        Figure(
            f"PostgreSQL, growth to {many:,}: {name}",
            statistics.median(several),
            "×",
            at_most=_AT_MOST,
            runs=tuple(several),
            note=notes[name],
        )
        for name, several in shares.items()
    ]


if __name__ == "__main__":
    command([measure], __doc__)
